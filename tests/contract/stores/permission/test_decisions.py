"""Which decisions the audit log gets, and that none is lost in silence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pyairtable.common.v1 import audit_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import changelog, space_messages
from pyairtable_mesh.permission.domain import Filter, SpaceRelationship
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.maintenance import Maintenance
from pyairtable_mesh.permission.platform import Loader
from pyairtable_mesh.permission.streams import StreamingRpcs
from pyairtable_mesh.permission.usecases import turns
from pyairtable_mesh.permission.usecases.authority import Authority, DeniedError, HiddenError
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import NEAREST
from pyairtable_mesh.permission.usecases.lookups import Lookups, Span
from pyairtable_mesh.permission.usecases.roles import Wanted
from pyairtable_mesh.permission.usecases.space_questions import SpaceCircumstances
from pyairtable_mesh.permission.usecases.watching import Watching
from pyairtable_mesh.runtime import auditing, authorization, decisions
from pyairtable_mesh.runtime.context import Actor, RequestContext, enter
from pyairtable_mesh.runtime.database import Transaction, background
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.errors import ResourceExhausted, Unavailable
from tests.contract.stores.permission.conftest import Permissions, caller, in_spaces
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, ref


async def _audited(permissions: Permissions) -> list[audit_pb2.AuditEvent]:
    found = [each for each in await permissions.audited() if each.HasField("authorization")]
    assert {each.tenant for each in found} == {f"tenants/{TENANT_ID}"}
    return found


async def _refusals(permissions: Permissions) -> list[audit_pb2.AuditEvent]:
    return [each for each in await _audited(permissions) if each.outcome == audit_pb2.AUDIT_OUTCOME_DENIED]


async def test_a_decision_is_audited_with_who_asked_and_the_grant_that_allowed_it(permissions: Permissions) -> None:
    binding = (await permissions.grant(ALICE, "viewer", BASE, BOB)).role_binding
    assert await permissions.may(BOB, "read", TABLE)
    assert not await permissions.may(CAROL, "read", TABLE)
    await permissions.log.write()
    found = await _audited(permissions)
    allowed, denied = found[-2:]
    assert allowed.authorization == audit_pb2.AuthorizationDecision(
        subject=BOB,
        resource=TABLE,
        permission="table.read",
        answer=audit_pb2.AUTHORIZATION_ANSWER_ALLOWED,
        grant=binding.name,
        revision="3",
    )
    assert (denied.authorization.subject, denied.outcome) == (CAROL, audit_pb2.AUDIT_OUTCOME_DENIED)
    await permissions.log.write()
    assert await _audited(permissions) == found


def _denied(permissions: Permissions, tenant_id: str, times: int) -> None:
    """Half of them by calls of their own, the others by one."""
    decision, carol = auditing.Decision(CAROL, TABLE, "table.read", "denied"), caller(CAROL, tenant_id)
    for _ in range(times // 2):
        permissions.log.take(carol, [decision])
    permissions.log.take(carol, [decision] * (times - times // 2))


async def test_an_answer_does_not_fail_for_its_grant_taking_too_long_to_name(
    permissions: Permissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(*_: Any) -> Any:
        raise ResourceExhausted("too deep", reason="EVALUATION_LIMIT")

    await permissions.grant(ALICE, "viewer", BASE, BOB)
    monkeypatch.setattr(authorization, "granting", name, raising=False)
    assert await permissions.may(BOB, "read", TABLE)
    await permissions.log.write()
    event = (await permissions.audited())[-1]
    assert (event.authorization.subject, event.authorization.grant) == (BOB, "")


async def test_what_does_not_fit_is_counted(permissions: Permissions) -> None:
    _denied(permissions, TENANT_ID, 25)
    assert permissions.log.dropped == {TENANT_ID: 5}
    await permissions.log.write()
    found = await _refusals(permissions)
    assert len(found) == 20
    assert found[0].details["dropped_before"] == "5"
    assert not permissions.log.dropped


async def test_a_tenant_s_share_grows_back_with_time_and_not_with_writing(permissions: Permissions) -> None:
    log = DecisionLog(permissions.database, permissions.clock, 0.0, share=20, rate=2)
    denials = [auditing.Decision(BOB, TABLE, "table.read", "denied")] * 15
    for seconds, dropped in ((0, 0), (0, 10), (3, 9), (60, 0)):
        permissions.clock.now += timedelta(seconds=seconds)
        log.take(caller(BOB), denials)
        assert log.dropped[TENANT_ID] == dropped
        await log.write()
        assert not log.dropped[TENANT_ID]
    permissions.clock.now += timedelta(seconds=60)
    await log.write()
    assert not log._used


async def test_decisions_that_no_message_can_be_made_of_hold_up_no_others(
    permissions: Permissions, caplog: pytest.LogCaptureFixture
) -> None:
    nobodys = replace(caller(BOB), actor=Actor("user", ""))
    permissions.log.take(nobodys, [auditing.Decision(BOB, TABLE, "table.read", "denied")])
    _denied(permissions, TENANT_ID, 2)
    await permissions.log.write()
    assert [each.authorization.subject for each in await _refusals(permissions)] == [CAROL, CAROL]
    assert (permissions.log._lost, permissions.log.dropped) == (1, {TENANT_ID: 1})
    assert "1 decisions of /" in caplog.text


async def test_what_one_call_asked_for_leaves_together(permissions: Permissions) -> None:
    log = DecisionLog(permissions.database, permissions.clock, 0.0)
    asked = [Question(ref("table", number), "read") for number in range(250)]
    before = len(await permissions.events())
    log.take(caller(BOB), [auditing.Decision(BOB, each.resource, "table.read", "denied") for each in asked])
    log.take(caller(CAROL), [auditing.Decision(CAROL, TABLE, "table.read", "denied")])
    log.take(caller(CAROL), [])
    await log.write()
    events = (await permissions.events())[before:]
    assert {(each.type, each.subject, each.aggregate) for each in events} == {
        (auditing.DECISIONS_TYPE, TENANT, auditing.EVENT_TYPE)
    }
    sent = [audit_pb2.AuditDecisions.FromString(each.data) for each in events]
    assert [len(each.decisions) for each in sent] == [100, 100, 50, 1]
    assert [each.resource for each in await _refusals(permissions)] == [*(each.resource for each in asked), TABLE]


async def test_what_a_batch_that_takes_too_long_has_denied_is_audited(
    permissions: Permissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await permissions.log.write()
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)
    with pytest.raises(ResourceExhausted):
        await permissions.checks.batch(caller(CAROL), [Question(TABLE, "read")] * 3, Circumstances())
    await permissions.log.write()
    assert [each.resource for each in await _refusals(permissions)] == [TABLE]


async def test_what_was_written_without_an_answer_is_written_again_under_the_same_ids(
    permissions: Permissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = permissions.database.transaction

    @asynccontextmanager
    async def unheard(who: RequestContext) -> AsyncIterator[Transaction]:
        async with transaction(who) as change:
            yield change
        raise Unavailable("the connection broke", reason="DATABASE_UNAVAILABLE")

    _denied(permissions, TENANT_ID, 4)
    with monkeypatch.context() as broken:
        broken.setattr(permissions.database, "transaction", unheard)
        with pytest.raises(Unavailable):
            await permissions.log.write()
    first = [each.event_id for each in await _refusals(permissions)]
    await permissions.log.write()
    assert [each.event_id for each in await _refusals(permissions)] == first * 2
    assert len(set(first)) == 4


async def test_a_few_wait_for_others(permissions: Permissions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "_AT_ONCE", 1)
    log = DecisionLog(permissions.database, permissions.clock, 0.0)
    log.take(caller(BOB), [auditing.Decision(BOB, TABLE, "table.read", "denied")] * 250)
    for leave, written in ((150, 100), (150, 200), (0, 250)):
        await log.write(leave)
        assert len(await _refusals(permissions)) == written


async def test_a_call_that_asks_for_the_most_is_not_cut_short(permissions: Permissions) -> None:
    log = DecisionLog(permissions.database, permissions.clock, 0.0)
    for _ in range(2):
        log.take(caller(BOB), [auditing.Decision(BOB, TABLE, "table.read", "denied")] * 10_000)
    assert not log.dropped


async def test_a_tenant_cannot_ask_until_another_s_decisions_do_not_fit(permissions: Permissions) -> None:
    _denied(permissions, "ten" + "3" * 26, 25)
    _denied(permissions, TENANT_ID, 10)
    assert permissions.log.dropped == {"ten" + "3" * 26: 5}
    _denied(permissions, TENANT_ID, 3)
    await permissions.log.write()
    told = dict[str, list[str]]()
    for each in await permissions.audited():
        if each.outcome == audit_pb2.AUDIT_OUTCOME_DENIED:
            told.setdefault(each.tenant, []).append(each.details.get("dropped_before", ""))
    assert told == {f"tenants/ten{'3' * 26}": ["5"] + [""] * 19, f"tenants/{TENANT_ID}": ["3"] + [""] * 9}


async def test_the_changelog_is_pruned_by_age_and_by_number(permissions: Permissions) -> None:
    for subject in (BOB, CAROL):
        await permissions.grant(ALICE, "viewer", BASE, subject)

    async def oldest() -> int:
        async with permissions.database.read(background(TENANT_ID)) as connection:
            try:
                await changelog.read(connection, TENANT_ID, 0, 100)
            except changelog.ExpiredError as error:
                return error.oldest
        return 0

    assert await oldest() == 0
    await Maintenance(permissions.database, timedelta(hours=1), 2, permissions.clock).prune()
    assert await oldest() == 2
    permissions.clock.forward(timedelta(hours=2))
    await Maintenance(permissions.database, timedelta(hours=1), 100, permissions.clock).prune()
    assert await oldest() == 4


async def test_history_is_pruned_from_its_beginning_however_clocks_differ(permissions: Permissions) -> None:
    hour = timedelta(hours=1)
    for number, ahead in enumerate((0, -3, 0, 3, -3, 3), 1):  # the clocks of the pods that write
        permissions.clock.forward(ahead * hour)
        await permissions.grant(ALICE, "viewer", BASE, ref("user", number))
        permissions.clock.forward(-ahead * hour)
    permissions.clock.forward(2 * hour)

    async def kept() -> list[int]:
        async with permissions.database.read(background(TENANT_ID)) as connection:
            try:
                tail = await changelog.read(connection, TENANT_ID, 0, 100)
            except changelog.ExpiredError as error:
                tail = await changelog.read(connection, TENANT_ID, error.oldest, 100)
        return [each.number for each in tail.revisions]

    assert await kept() == list(range(1, 9))
    maintenance = Maintenance(permissions.database, hour, 100, permissions.clock)
    await maintenance.prune()
    assert await kept() == [6, 7, 8]  # 7 is as old as what went, and 6 is not
    permissions.clock.forward(3 * hour)
    await maintenance.prune()
    assert await kept() == []


async def _answers(permissions: Permissions) -> list[tuple[str, str, str, str]]:
    """The denials of the log: the RPC, who asked, what for, and the revision."""
    await permissions.log.write()
    denied = await _refusals(permissions)
    assert all(each.actor.subject == each.authorization.subject for each in denied)
    return [
        (each.action.rpartition("/")[2], each.resource, each.authorization.permission, each.authorization.revision)
        for each in denied
    ]


async def _refused(waiting: Awaitable[object]) -> None:
    with pytest.raises((DeniedError, HiddenError)):
        await waiting


async def _first(parts: AsyncIterator[object]) -> object:
    return await anext(parts)


async def test_who_may_not_ask_is_audited_whatever_it_asks(permissions: Permissions) -> None:
    checks, clock, nothing = permissions.checks, permissions.clock, Circumstances()
    lookups = Lookups(permissions.states, permissions.tokens, clock, permissions.log)
    authority, leaving = Authority(NaiveEvaluator(), permissions.engines), asyncio.Event()
    loader, tokens, log = Loader(permissions.database), permissions.tokens, permissions.log
    watching = Watching(permissions.database, permissions.engines, loader, authority, tokens, leaving, log)
    about = Question(TABLE, "read", CAROL)

    def bob(method: str) -> RequestContext:
        return caller(BOB, method=method)

    await _refused(checks.check(bob("CheckPermission"), about, nothing))
    await _refused(checks.explain(bob("ExplainPermission"), about, nothing))
    await _refused(checks.effective(bob("GetEffectivePermissions"), TABLE, CAROL, nothing))
    await _refused(lookups.expand(bob("ExpandPermission"), Question(TABLE, "read"), 0, NEAREST))
    listed = lookups.resources(bob("LookupResources"), "table", Question("", "read", CAROL), nothing, Span())
    await _refused(_first(listed))
    who = lookups.subjects(bob("LookupSubjects"), Question(TABLE, "read"), "user", "", nothing, Span())
    await _refused(_first(who))
    await _refused(_first(watching.watch(bob("WatchRelationships"), "", "", (), 10)))
    everything = Filter()
    await _refused(permissions.relationships.read(bob("ReadRelationships"), everything, NEAREST, 10, None))
    await _refused(permissions.relationships.export(bob("ExportRelationships"), NEAREST, 0, None, 10))
    await _refused(permissions.roles.bindings(bob("ListRoleBindings"), Wanted(TABLE), NEAREST, 10, ""))
    assert await _answers(permissions) == [
        ("CheckPermission", TABLE, "table.manage_access", "2"),
        ("ExplainPermission", TABLE, "table.manage_access", "2"),
        ("GetEffectivePermissions", TABLE, "table.manage_access", "2"),
        ("ExpandPermission", TABLE, "table.manage_access", "2"),
        ("LookupResources", TENANT, "tenant.manage_access", "2"),
        ("LookupSubjects", TABLE, "table.manage_access", "2"),
        ("WatchRelationships", TENANT, "tenant.manage_access", "2"),
        ("ReadRelationships", TENANT, "tenant.manage_access", "2"),
        ("ExportRelationships", TENANT, "tenant.manage_access", "2"),
        ("ListRoleBindings", TABLE, "table.manage_access", "2"),
    ]


async def test_each_denial_of_a_batch_a_stream_and_an_explanation_is_audited(permissions: Permissions) -> None:
    denied, hidden = Question(TABLE, "read"), Question(TABLE, "read", ALICE)
    batch = caller(CAROL, method="BatchCheckPermissions")
    await permissions.checks.batch(batch, [denied, hidden, denied], Circumstances())
    await permissions.checks.explain(caller(CAROL, method="ExplainPermission"), denied, Circumstances())
    nobody: Any = None
    streaming = StreamingRpcs(permissions.checks, nobody, nobody, nobody, nobody, nobody)
    enter(caller(CAROL, method="StreamCheckPermissions"))

    async def requests() -> AsyncIterator[pb.StreamCheckPermissionsRequest]:
        for each in (denied, hidden):
            item = pb.CheckItem(resource=each.resource, permission=each.verb, subject=each.subject)
            yield pb.StreamCheckPermissionsRequest(item=item)

    assert len([each async for each in streaming.StreamCheckPermissions(requests(), None)]) == 2
    read, manage = "table.read", "table.manage_access"
    assert [(method, permission) for method, _, permission, _ in await _answers(permissions)] == [
        *(("BatchCheckPermissions", each) for each in (read, manage, read)),
        ("ExplainPermission", read),
        *(("StreamCheckPermissions", each) for each in (read, manage)),
    ]


async def test_an_act_is_audited_with_the_grant_that_allowed_it_and_its_refusal_with_what_was_missing(
    permissions: Permissions,
) -> None:
    owner = (await permissions.grant(ALICE, "owner", BASE, BOB)).role_binding
    await permissions.grant(BOB, "viewer", TABLE, CAROL)
    await _refused(permissions.grant(CAROL, "viewer", TABLE, CAROL))
    acts = [each.authorization for each in await _audited(permissions)]
    allowed, denied = acts[-2:]
    assert (allowed.subject, allowed.resource, allowed.permission) == (BOB, TABLE, "table.manage_access")
    assert (allowed.answer, allowed.grant) == (audit_pb2.AUTHORIZATION_ANSWER_ALLOWED, owner.name)
    assert allowed.revision == "3"
    assert (denied.subject, denied.answer) == (CAROL, audit_pb2.AUTHORIZATION_ANSWER_DENIED)
    assert denied.revision == "4"


async def test_who_gives_more_than_it_has_is_audited_with_what_it_lacks(permissions: Permissions) -> None:
    manager = await permissions.define_role("Manager", "base.read", "base.manage_access")
    await permissions.grant(ALICE, manager, BASE, BOB)
    await _refused(permissions.grant(BOB, "editor", BASE, CAROL))
    (denied,) = await _refusals(permissions)
    assert denied.details == {"reason": "GRANT_EXCEEDS_OWN", "permission": denied.authorization.permission}
    assert denied.authorization == audit_pb2.AuthorizationDecision(
        subject=BOB,
        resource=BASE,
        permission="field.edit",
        answer=audit_pb2.AUTHORIZATION_ANSWER_DENIED,
        revision="4",
    )


MODEL = """
model
  schema 1.1
type user
type team
  relations
    define member: [user]
type doc
  relations
    define owner: [user, team#member]
    define reader: owner
"""


async def test_in_a_model_space_a_decision_is_audited_with_the_relationship_that_allowed_it(
    permissions: Permissions,
) -> None:
    spaces, questions = in_spaces(permissions)
    space = (await spaces.create(caller(ALICE), "Docs", space_messages.from_space)).name.removeprefix("modelSpaces/")
    await spaces.write_schema(caller(ALICE), space, MODEL, "", lambda version, _: space_messages.from_schema(version))
    stored = [SpaceRelationship("team:a", "member", BOB), SpaceRelationship("doc:1", "owner", "team:a#member")]
    await spaces.add(caller(ALICE), space, stored)
    for each in (BOB, CAROL):
        await questions.check(caller(each), space, Question("doc:1", "reader"), SpaceCircumstances())
    await permissions.log.write()
    allowed, denied = (await _audited(permissions))[-2:]
    assert allowed.authorization.grant == "doc:1#owner@team:a#member"
    assert (denied.authorization.grant, denied.details["space"]) == ("", f"modelSpaces/{space}")
    acts = [each for each in await _audited(permissions) if each.details.get("space") and each.resource == TENANT]
    assert [each.authorization.permission for each in acts] == ["tenant.manage_access"] * 3
