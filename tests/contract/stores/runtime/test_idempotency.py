import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from pyairtable_mesh.runtime import idempotency, maintenance, outbox
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.idempotency import Key, Record, Replayed
from tests.databases import caller

REQUEST = caller("ten1", request_id="r1", digest=b"d1")


async def _change(database: Database, who: RequestContext, answer: bytes) -> bytes:
    async with database.transaction(who) as tx:
        tx.remember(answer)
    return answer


async def _answered(database: Database, who: RequestContext) -> Record | None:
    key = Key.of(who)
    assert key is not None
    async with database.read(background()) as connection:
        return await idempotency.lookup(connection, key)


async def test_a_repetition_gets_the_first_answer_and_changes_nothing(database: Database) -> None:
    await _change(database, REQUEST, b"first")
    with pytest.raises(Replayed) as replayed:
        await _change(database, REQUEST, b"second")
    assert replayed.value.response == b"first"
    assert await _answered(database, REQUEST) == Record(b"first")


async def test_a_repetition_that_fails_for_what_the_first_has_changed_gets_its_answer(database: Database) -> None:
    await _change(database, REQUEST, b"first")
    with pytest.raises(Replayed) as replayed:
        async with database.transaction(REQUEST):
            raise LookupError
    assert replayed.value.response == b"first"
    with pytest.raises(LookupError):
        async with database.transaction(caller("ten1", request_id="r2", digest=b"d1")):
            raise LookupError


async def test_no_further_change_of_an_answered_request_is_made(database: Database) -> None:
    await _change(database, REQUEST, b"first")
    with pytest.raises(Replayed):
        async with database.transaction(REQUEST) as tx:
            tx.audit("base:app1", action="a.v1.Service/Make")
    async with database.read(background()) as connection:
        assert await outbox.end(connection) == outbox.Position()


@pytest.mark.parametrize(
    "other",
    [
        caller("ten2", request_id="r1", digest=b"d1"),
        caller("ten1", request_id="r2", digest=b"d1"),
        caller("ten1", request_id="r1", digest=b"d1", user="user:usr2"),
    ],
    ids=["tenant", "request id", "caller"],
)
async def test_a_request_is_its_own_by(database: Database, other: RequestContext) -> None:
    await _change(database, REQUEST, b"first")
    assert await _change(database, other, b"second") == b"second"


async def test_an_id_used_for_another_request_is_refused(database: Database) -> None:
    await _change(database, REQUEST, b"first")
    with pytest.raises(InvalidArgument) as refused:
        await _change(database, caller("ten1", request_id="r1", digest=b"other"), b"second")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert [violation.field for violation in refused.value.violations] == ["request_id"]


async def test_a_change_that_failed_is_not_remembered(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction(REQUEST) as tx:
            tx.remember(b"never")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await _answered(database, REQUEST) is None
    assert await _change(database, REQUEST, b"now") == b"now"


@pytest.mark.parametrize("tenant_id", ["ten1", ""], ids=["a tenant's", "no tenant's"])
async def test_of_concurrent_twins_one_changes_and_all_get_its_answer(database: Database, tenant_id: str) -> None:
    workload = RequestContext("/m", actor=Actor("workload", "spiffe://x/sa/y"), request_id="r1", request_digest=b"d")
    who = caller(tenant_id, request_id="r1", digest=b"d") if tenant_id else workload

    async def attempt(number: int) -> tuple[str, bytes]:
        try:
            return "changed", await _change(database, who, b"%d" % number)
        except Replayed as replayed:
            return "replayed", replayed.response

    outcomes = await asyncio.gather(*(attempt(number) for number in range(8)))
    assert sorted(kind for kind, _ in outcomes) == ["changed"] + ["replayed"] * 7
    assert len({answer for _, answer in outcomes}) == 1


async def test_answers_are_forgotten_in_time(database: Database, later: Callable[[timedelta], None]) -> None:
    await _change(database, REQUEST, b"first")
    await maintenance.trim(database)
    assert await _answered(database, REQUEST) == Record(b"first")
    later(maintenance.KEEP_ANSWERS)
    await maintenance.trim(database)
    assert await _answered(database, REQUEST) is None


async def test_however_many_answers_are_too_old_no_transaction_forgets_more_than_a_few(
    database: Database, later: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_STEP", 2)
    old = [caller("ten1", request_id=f"r{number}", digest=b"d") for number in range(5)]
    for who in old:
        await _change(database, who, b"answer")
    later(maintenance.KEEP_ANSWERS)
    async with database.transaction(caller("ten1")) as tx:
        assert await idempotency.trim(tx.connection, tx.now, 2) == 2
    await maintenance.trim(database)
    assert [await _answered(database, who) for who in old] == [None] * 5
