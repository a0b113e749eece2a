import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.sql import Executable

from pyairtable_mesh.audit import domain, filters
from pyairtable_mesh.audit import usecases as audit
from pyairtable_mesh.audit.domain import Outcome
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.tables import CHAINS, EVENTS, METADATA, PERSONAL_DATA
from pyairtable_mesh.audit.usecases import AuditLog, Report
from pyairtable_mesh.runtime import migrations
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import FailedPrecondition, PermissionDenied
from pyairtable_mesh.runtime.filters import All, parse
from tests.databases import caller
from tests.unit.audit.entries import OTHER, TENANT, draft

WRITER = background(workload="spiffe://test/ns/default/sa/permission")
READER = caller(TENANT)
LIMIT_SECONDS = 5.0


@dataclass
class FakeAuthorizer:
    allowed: bool = True

    async def check(self, _caller: RequestContext, questions: Sequence[tuple[str, str]]) -> Sequence[bool]:
        assert questions == [(f"tenant:{TENANT}", "read_audit")]
        return [self.allowed]


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.audit.migrations"


@pytest.fixture
def authorizer() -> FakeAuthorizer:
    return FakeAuthorizer()


@pytest.fixture
def log(database: Database, authorizer: FakeAuthorizer) -> AuditLog:
    return AuditLog(database, Store(), authorizer)


async def _tamper(database: Database, *statements: Executable) -> None:
    async with database.transaction(WRITER) as tx:
        for statement in statements:
            await tx.connection.execute(statement)


async def _verify(log: AuditLog, first: int = 0, last: int = 0) -> Report:
    return await log.verify(READER, first, last, [])


async def _sequences(log: AuditLog, where: str) -> list[int]:
    tree = parse(where, filters.FIELDS)
    links = await log.list(READER, tree, after=None, descending=False, limit=100)
    return [link.sequence for link in links]


async def test_the_tables_are_those_of_the_migrations(database: Database) -> None:
    assert await migrations.differences(database, METADATA) == []


async def test_every_tenant_has_a_chain_of_its_own(log: AuditLog) -> None:
    positions = await log.write(WRITER, [draft(1), draft(2, OTHER), draft(3)])
    assert [position.sequence for position in positions] == [1, 1, 2]
    assert await _sequences(log, "") == [1, 2]
    assert (await log.verify(caller(OTHER), 0, 0, [])).verified == 1


async def test_an_event_is_written_once_however_often_it_is_sent(log: AuditLog) -> None:
    first = await log.write(WRITER, [draft(1), draft(1), draft(2)])
    again = await log.write(WRITER, [draft(2), draft(1), draft(3)])
    assert [position.sequence for position in first] == [1, 1, 2]
    assert [position.sequence for position in again] == [2, 1, 3]
    assert again[1] == first[0]
    assert (await _verify(log)).verified == 3


async def test_concurrent_writers_make_one_whole_chain(log: AuditLog) -> None:
    batches = [[draft(writer * 10 + number) for number in range(5)] for writer in range(8)]
    shared = [draft(999), draft(998, OTHER)]
    await asyncio.gather(*(log.write(WRITER, [*batch, *shared]) for batch in batches))
    report = await _verify(log)
    assert (report.broken, report.verified) == (None, 41)


async def test_a_transaction_that_fails_leaves_no_gap(log: AuditLog, database: Database) -> None:
    async def fail() -> None:
        async with database.transaction(WRITER) as tx:
            await log.append(tx, [draft(1), draft(2)])
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    await log.write(WRITER, [draft(3)])
    assert (await _verify(log)).verified == 1


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", [1, 2, 3]),
        ("outcome = DENIED", [2]),
        ("NOT outcome = DENIED", [1, 3]),
        ('actor.subject = "user:other"', [3]),
        ('outcome != DENIED AND (action = "a.B/C" OR actor.subject = "user:other")', [3]),
        ('event_time >= "2026-11-23T12:30:00Z"', [1, 2, 3]),
        ('event_time > "2026-11-23T13:30:00+01:00"', []),
    ],
)
async def test_filters(log: AuditLog, where: str, expected: list[int]) -> None:
    await log.write(WRITER, [draft(1), draft(2, outcome=Outcome.DENIED), draft(3, subject="user:other")])
    assert await _sequences(log, where) == expected


async def test_pages_go_in_both_directions(log: AuditLog) -> None:
    await log.write(WRITER, [draft(number) for number in range(1, 6)])
    newest = await log.list(READER, All(), after=None, descending=True, limit=2)
    older = await log.list(READER, All(), after=newest[-1].sequence, descending=True, limit=2)
    assert [link.sequence for link in (*newest, *older)] == [5, 4, 3, 2]


_THIRD = EVENTS.c.sequence == 3


@pytest.mark.parametrize(
    ("statement", "sequence", "words"),
    [
        pytest.param(update(EVENTS).where(_THIRD).values(content=b"{}"), 3, "not what was written", id="content"),
        pytest.param(update(EVENTS).where(_THIRD).values(hash=bytes(32)), 3, "not what was written", id="hash"),
        pytest.param(update(EVENTS).where(_THIRD).values(previous_hash=b""), 3, "does not follow", id="previous hash"),
        pytest.param(update(EVENTS).where(_THIRD).values(subject="user:me"), 3, "found by", id="column"),
        pytest.param(delete(EVENTS).where(_THIRD), 3, "missing", id="one deleted"),
        pytest.param(delete(EVENTS).where(EVENTS.c.sequence == 1), 1, "missing", id="first deleted"),
        pytest.param(delete(EVENTS).where(EVENTS.c.sequence >= 4), 4, "missing", id="end deleted"),
        pytest.param(delete(EVENTS), 1, "missing", id="all deleted"),
        pytest.param(update(PERSONAL_DATA).values(data=b"{}"), 1, "personal data", id="personal data"),
        pytest.param(update(CHAINS).values(hash=bytes(32)), 5, "ended with", id="head's hash"),
        pytest.param(update(CHAINS).values(sequence=4), 4, "ended with", id="head's number"),
        pytest.param(delete(CHAINS), 1, "behind the end", id="head deleted"),
    ],
)
async def test_tampering_is_found_and_its_first_place_named(
    log: AuditLog, database: Database, statement: Executable, sequence: int, words: str
) -> None:
    await log.write(WRITER, [draft(number, email="ada@example.com") for number in range(1, 6)])
    assert (await _verify(log)).broken is None
    await _tamper(database, statement)
    broken = (await _verify(log)).broken
    assert broken is not None
    assert broken.sequence == sequence
    assert words in broken.reason


async def test_an_event_rewritten_with_its_own_hash_breaks_the_next(log: AuditLog, database: Database) -> None:
    await log.write(WRITER, [draft(1), draft(2), draft(3)])
    forged = domain.content("aud" + "1" * 26, 2, draft(2, subject="user:me").entry, b"")
    (row,) = await _rows(database, 1)
    values = {"content": forged, "hash": domain.chain_hash(row, forged), "subject": "user:me"}
    await _tamper(database, update(EVENTS).where(EVENTS.c.sequence == 2).values(audit_id="aud" + "1" * 26, **values))
    broken = (await _verify(log)).broken
    assert broken is not None
    assert (broken.sequence, broken.reason) == (3, "the event does not follow the one before it")


async def _rows(database: Database, sequence: int) -> Sequence[bytes]:
    async with database.read(WRITER) as connection:
        return list((await connection.execute(select(EVENTS.c.hash).where(EVENTS.c.sequence == sequence))).scalars())


async def test_a_chain_written_anew_is_found_by_what_was_noted(log: AuditLog, database: Database) -> None:
    noted = (await log.write(WRITER, [draft(1), draft(2)]))[1]
    await _tamper(database, delete(EVENTS), delete(CHAINS))
    await log.write(WRITER, [draft(3), draft(4)])
    assert (await _verify(log)).broken is None
    broken = (await log.verify(READER, 0, 0, [(noted.sequence, noted.hash)])).broken
    assert broken is not None
    assert (broken.sequence, broken.reason) == (2, "the event is not the one that was noted")


async def test_erasure_leaves_the_chain_whole(log: AuditLog, database: Database) -> None:
    await log.write(WRITER, [draft(1, email="ada@example.com"), draft(2), draft(3, email="bob@example.com")])
    await _tamper(database, delete(PERSONAL_DATA).where(PERSONAL_DATA.c.sequence == 1))
    report = await _verify(log)
    assert (report.broken, report.verified, report.erased) == (None, 3, 1)


@pytest.mark.parametrize(
    ("first", "last", "verified"), [(0, 0, 5), (2, 0, 4), (2, 3, 2), (0, 3, 3), (5, 9, 1), (6, 0, 0), (9, 9, 0)]
)
async def test_a_range_can_be_verified(log: AuditLog, first: int, last: int, verified: int) -> None:
    await log.write(WRITER, [draft(number) for number in range(1, 6)])
    report = await _verify(log, first, last)
    assert (report.broken, report.verified) == (None, verified)
    assert (report.last is None) == (verified == 0)


async def test_an_empty_log_holds(log: AuditLog) -> None:
    report = await _verify(log)
    assert (report.broken, report.verified, report.last) == (None, 0, None)


async def test_more_than_a_batch_is_verified_and_listed(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "VERIFY_BATCH", 2)
    await log.write(WRITER, [draft(number) for number in range(1, 6)])
    assert (await _verify(log)).verified == 5


async def test_a_damaged_event_is_said_where_it_is_listed(log: AuditLog, database: Database) -> None:
    await log.write(WRITER, [draft(1)])
    await _tamper(database, update(EVENTS).values(content=b"broken"))
    with pytest.raises(FailedPrecondition) as damaged:
        await _sequences(log, "")
    assert damaged.value.reason == "AUDIT_LOG_BROKEN"


async def test_a_tail_gives_what_there_is_and_then_what_comes(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "POLL_SECONDS", 10 * LIMIT_SECONDS)
    await log.write(WRITER, [draft(1), draft(2, outcome=Outcome.DENIED)])
    tail = log.tail(READER, parse("outcome = SUCCEEDED", filters.FIELDS), 0, heartbeat=60)
    async with asyncio.timeout(LIMIT_SECONDS):
        links, cursor = await anext(tail)
        assert ([link.sequence for link in links], cursor) == ([1], 2)
        coming = asyncio.create_task(tail.__anext__())
        await log.write(WRITER, [draft(3), draft(4, OTHER)])
        links, cursor = await coming
    assert ([link.sequence for link in links], cursor) == ([3], 3)


async def test_a_tail_has_heartbeats_and_ends_with_the_permission(
    log: AuditLog, authorizer: FakeAuthorizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RECHECK_SECONDS", 0.0)
    tail = log.tail(READER, All(), 0, heartbeat=0.01)
    async with asyncio.timeout(LIMIT_SECONDS):
        assert [await anext(tail) for _ in range(3)] == [([], 0)] * 3
        authorizer.allowed = False
        with pytest.raises(PermissionDenied):
            await anext(tail)


async def test_texts_that_postgresql_cannot_store_are_kept_in_the_chain(log: AuditLog) -> None:
    await log.write(WRITER, [draft(1, subject="user:\0", details={"reason": "\0"})])
    (link,) = await log.list(READER, All(), after=None, descending=True, limit=1)
    assert link.entry.subject == "user:\0"
    assert (await _verify(log)).broken is None


async def test_another_tenants_chain_cannot_be_written_into(log: AuditLog, database: Database) -> None:
    await log.write(WRITER, [draft(1)])
    if database.dialect == "postgresql":
        assert (await log.verify(caller(OTHER), 0, 0, [])).verified == 0
        async with database.transaction(caller(OTHER)) as tx:
            assert (await tx.connection.execute(delete(EVENTS))).rowcount == 0
    assert (await _verify(log)).verified == 1


async def test_the_events_of_a_chain_are_unique(log: AuditLog, database: Database) -> None:
    await log.write(WRITER, [draft(1)])
    async with database.read(WRITER) as connection:
        row = dict((await connection.execute(select(EVENTS))).mappings().one())
    row["sequence"] = 2
    with pytest.raises(Exception, match=r"(?i)unique"):
        await _tamper(database, insert(EVENTS).values(row))
