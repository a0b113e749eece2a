import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from pyairtable.common.v1 import audit_pb2, events_pb2
from pyairtable_mesh.audit.domain import Answer, Decision, Outcome
from pyairtable_mesh.audit.intake import Intake
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime import auditing, migrations, moments, outbox
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime.consumers import EventConsumer, Patience
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.events import EventServicer
from pyairtable_mesh.runtime.filters import All
from pyairtable_mesh.runtime.validation import SchemaValidator
from tests.databases import caller
from tests.unit.audit.entries import OTHER, TENANT

LIMIT_SECONDS = 10.0
USER = "user:usr" + "1" * 26


class Loopback:
    """The event stream of another service's database, without a network between."""

    def __init__(self, source: Database) -> None:
        self._servicer = EventServicer(source)

    def Subscribe(self, request: events_pb2.SubscribeRequest) -> AsyncIterator[events_pb2.SubscribeResponse]:
        return self._servicer.Subscribe(request, None)


class Faulty(Intake):
    """Crashes after the append and before the commit, a few times."""

    crashes = 3

    async def __call__(self, transaction: databases.Transaction, events: Sequence[events_pb2.Event]) -> None:
        await super().__call__(transaction, events)
        if self.crashes:
            self.crashes -= 1
            raise RuntimeError("crash between append and commit")


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.audit.migrations"


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Database]:
    """The database of the service that acts."""
    async with databases.opened(f"sqlite:///{tmp_path}/source.db", service="permission") as opened:
        await migrations.upgrade(opened, None)
        yield opened


@pytest.fixture
def log(database: Database) -> AuditLog:
    return AuditLog(database, Store(), _NoAuthorizer())


class _NoAuthorizer:
    async def check(self, _caller: RequestContext, questions: Sequence[tuple[str, str]]) -> Sequence[bool]:
        raise AssertionError(questions)


@asynccontextmanager
async def _following(database: Database, source: Database, *intakes: Intake) -> AsyncIterator[None]:
    patience = Patience(heartbeat=0.2, first_delay=0.001, longest_delay=0.01)
    kinds = [auditing.EVENT_TYPE, auditing.DECISIONS_TYPE]
    consumers = [
        EventConsumer("audit.permission", Loopback(source), database, intake, types=kinds, patience=patience)
        for intake in intakes
    ]
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _act(source: Database, *resources: str, tenant_id: str = TENANT) -> None:
    async with source.transaction(caller(tenant_id, user=USER)) as tx:
        for resource in resources:
            tx.audit(resource, personal=auditing.PersonalData(email="ada@example.com"))


async def _until_logged(log: AuditLog, count: int, tenant_id: str = TENANT) -> list[str]:
    who = caller(tenant_id)
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async for _, last in log.tail(who, All(), 0, heartbeat=0.05):
                if last >= count:
                    break
    except TimeoutError:
        pytest.fail(f"{count} events were not logged within {LIMIT_SECONDS} s")
    assert (await log.verify(who, 0, 0, [])).broken is None
    return [link.entry.resource for link in await log.list(who, All(), after=None, descending=False, limit=1000)]


async def test_what_services_audit_comes_into_the_log_in_order(
    database: Database, source: Database, log: AuditLog
) -> None:
    await _act(source, "base:a", "base:b")
    async with _following(database, source, Intake(log, SchemaValidator())):
        await _act(source, "base:c")
        await _act(source, "base:other", tenant_id=OTHER)
        assert await _until_logged(log, 3) == ["base:a", "base:b", "base:c"]
        assert await _until_logged(log, 1, OTHER) == ["base:other"]
    (link,) = await log.list(caller(OTHER), All(), after=None, descending=False, limit=2)
    assert link.entry.subject == USER
    assert link.entry.action == "pyairtable.test.v1.TestService/Change"
    assert link.personal is not None
    assert link.personal.opened().email == "ada@example.com"


async def test_a_crash_between_append_and_commit_loses_and_repeats_nothing(
    database: Database, source: Database, log: AuditLog
) -> None:
    await _act(source, "base:a", "base:b")
    async with _following(database, source, Faulty(log, SchemaValidator())):
        assert await _until_logged(log, 2) == ["base:a", "base:b"]


async def test_two_replicas_log_every_event_once(database: Database, source: Database, log: AuditLog) -> None:
    validator = SchemaValidator()
    resources = [f"base:{number}" for number in range(40)]
    async with _following(database, source, Intake(log, validator), Intake(log, validator)):
        for resource in resources:
            await _act(source, resource)
        assert await _until_logged(log, len(resources)) == resources


async def test_a_wrong_event_is_named_and_keeps_nothing_else_out(
    database: Database, log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    entry = auditing.Entry("base:a", "", "succeeded", {}, None, None)
    right = auditing.message(entry, caller(TENANT, user=USER), moments.utc_now())
    wrong = audit_pb2.AuditEvent(event_id="nonsense")
    late = audit_pb2.AuditEvent()
    late.CopyFrom(right)
    late.event_time.seconds = 1 << 60
    events = [_event("e1", wrong), events_pb2.Event(id="e2"), _event("e3", late), _event("e4", right)]
    with caplog.at_level(logging.ERROR):
        async with database.transaction(background()) as tx:
            await Intake(log, SchemaValidator())(tx, events)
    assert await _until_logged(log, 1) == ["base:a"]
    assert [name for name in ("e1", "e2", "e3", "e4") if f"audit event {name}" in caplog.text] == ["e1", "e2", "e3"]


def _decided(count: int, tenant_id: str = TENANT, first: int = 0) -> Sequence[audit_pb2.AuditDecisions]:
    """Denials about ``base:<first>`` and following, with every other allowed, as a decision log sends them."""
    made = [
        auditing.Decision(USER, f"base:{first + at}", "base.read", "allowed" if at % 2 else "denied", "", "7")
        for at in range(count)
    ]
    parts = [made[at : at + auditing.MOST_DECISIONS] for at in range(0, count, auditing.MOST_DECISIONS)]
    who = caller(tenant_id, user=USER)
    sent = [auditing.decisions_message(part, who, moments.utc_now(), {"space": "modelSpaces/a"}) for part in parts]
    sent[0].dropped_before = 3
    return sent


async def _send(source: Database, *messages: audit_pb2.AuditDecisions) -> None:
    async with source.transaction(background()) as tx:
        for each in messages:
            tenant_id = each.tenant.removeprefix("tenants/")
            tx.publish(auditing.DECISIONS_TYPE, f"tenant:{tenant_id}", each, tenant_id=tenant_id)


async def test_decisions_that_came_together_are_an_entry_each_in_their_order_and_of_their_tenant(
    database: Database, source: Database, log: AuditLog
) -> None:
    await _act(source, "base:before")
    await _send(source, *_decided(250), *_decided(2, OTHER))
    await _act(source, "base:after")
    async with _following(database, source, Intake(log, SchemaValidator())):
        expected = ["base:before", *(f"base:{at}" for at in range(250)), "base:after"]
        assert await _until_logged(log, 252) == expected
        assert await _until_logged(log, 2, OTHER) == ["base:0", "base:1"]
    links = await log.list(caller(TENANT), All(), after=None, descending=False, limit=1000)
    assert len({link.entry.event_id for link in links}) == 252
    denied, allowed = links[1].entry, links[2].entry
    assert (denied.outcome, allowed.outcome) == (Outcome.DENIED, Outcome.SUCCEEDED)
    assert denied.decision == Decision(USER, "base:0", "base.read", Answer.DENIED, "", "7")
    assert (denied.subject, denied.action) == (USER, "pyairtable.test.v1.TestService/Change")
    assert (denied.details, allowed.details) == (
        {"space": "modelSpaces/a", "dropped_before": "3"},
        {"space": "modelSpaces/a"},
    )


async def test_decisions_that_come_again_under_another_event_are_not_logged_again(
    database: Database, log: AuditLog
) -> None:
    (decisions,) = _decided(3)
    intake = Intake(log, SchemaValidator())
    for events in ([_event("e1", decisions)], [_event("e2", decisions), _event("e3", decisions)]):
        async with database.transaction(background()) as tx:
            await intake(tx, events)
    assert await _until_logged(log, 3) == ["base:0", "base:1", "base:2"]


async def test_a_wrong_decision_keeps_none_of_the_others_out(
    database: Database, log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    (decisions,), (nameless,), nothing = _decided(3), _decided(1), audit_pb2.AuditDecisions()
    decisions.decisions[1].resource = ""
    nameless.event_id = "nonsense"
    with caplog.at_level(logging.ERROR):
        async with database.transaction(background()) as tx:
            events = [_event("e1", decisions), _event("e2", nameless), _event("e3", nothing)]
            await Intake(log, SchemaValidator())(tx, events)
    assert await _until_logged(log, 2) == ["base:0", "base:2"]
    assert caplog.text.count("is left out") == 3


def test_the_largest_decisions_of_a_message_fit_into_an_event() -> None:
    decision = auditing.Decision("s" * 256, "r" * 256, "p" * 128, "conditional", "g" * 1024, "v" * 256)
    who = replace(
        caller(TENANT, user="user:" + "u" * 251),
        method=f"/{'a' * 127}/{'b' * 128}",
        correlation_id="c" * 128,
        trace_id="0" * 32,
    )
    details = {"space": "d" * 1024}
    message = auditing.decisions_message([decision] * auditing.MOST_DECISIONS, who, moments.utc_now(), details)
    message.dropped_before = 1 << 60
    SchemaValidator().check(message)
    assert message.ByteSize() <= outbox.MAX_DATA_BYTES


def _event(event_id: str, message: Message) -> events_pb2.Event:
    data = AnyMessage()
    data.Pack(message)
    return events_pb2.Event(id=event_id, data=data)


@pytest.mark.parametrize(
    "who",
    [
        replace(caller(TENANT), tenant_id=""),
        background(TENANT),
        background(TENANT, workload="spiffe://test/ns/default/sa/permission"),
    ],
    ids=["no tenant", "nobody", "no RPC"],
)
def test_an_entry_that_says_too_little_is_the_services_mistake(who: RequestContext) -> None:
    with pytest.raises(ValueError, match="has a tenant, an actor and an action"):
        auditing.message(auditing.Entry("base:a", "", "succeeded", {}, None, None), who, moments.utc_now())
