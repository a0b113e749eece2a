import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import maintenance, outbox
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import InvalidArgument, OutOfRange
from pyairtable_mesh.runtime.outbox import Page, Position
from tests.databases import PostgresServer, caller

BEGINNING = Position()


async def _publish(database: Database, *subjects: str, kind: str = "test.thing.changed") -> None:
    async with database.transaction(caller("ten1")) as tx:
        for subject in subjects:
            tx.publish(kind, subject, StringValue(value=subject))


async def _read(database: Database, after: Position = BEGINNING, types: tuple[str, ...] = (), limit: int = 10) -> Page:
    async with database.read(background()) as connection:
        return await outbox.read(connection, after, types, limit)


def _subjects(page: Page) -> list[str]:
    return [event.subject for _, event in page.events]


async def test_events_leave_in_order_with_what_cloudevents_asks_for(database: Database) -> None:
    await _publish(database, "a", "b")
    await _publish(database, "c")
    page = await _read(database)
    assert _subjects(page) == ["a", "b", "c"]
    event = page.events[0][1]
    assert (event.source, event.type, event.tenant_id, event.aggregate) == (
        "/services/test",
        "test.thing.changed",
        "ten1",
        "a",
    )
    assert (event.data_type, StringValue.FromString(event.data).value) == ("google.protobuf.StringValue", "a")
    assert event.correlation_id == "correlation-1"
    assert (page.complete, page.pending) == (True, False)


async def test_a_change_that_fails_publishes_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction(caller("ten1")) as tx:
            tx.publish("test.thing.changed", "a", StringValue())
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert _subjects(await _read(database)) == []


async def test_reading_goes_on_where_a_page_ended(database: Database) -> None:
    await _publish(database, *"abcde")
    pages = [await _read(database, limit=2)]
    while not pages[-1].complete:
        pages.append(await _read(database, Position.parse(str(pages[-1].after)), limit=2))
    assert [_subjects(page) for page in pages] == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_page_fits_into_a_message(database: Database) -> None:
    large = BytesValue(value=bytes(outbox.MAX_DATA_BYTES - 10))
    async with database.transaction(caller("ten1")) as tx:
        for number in range(6):
            tx.publish("test.thing.changed", str(number), large)
    first = await _read(database)
    assert (_subjects(first), first.complete) == (["0", "1", "2"], False)
    assert _subjects(await _read(database, first.after)) == ["3", "4", "5"]


async def test_an_event_that_is_too_large_is_the_publishers_mistake(database: Database) -> None:
    with pytest.raises(ValueError, match="publish what changed"):
        async with database.transaction(caller("ten1")) as tx:
            tx.publish("test.thing.changed", "a", BytesValue(value=bytes(outbox.MAX_DATA_BYTES)))


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((), ["a", "b", "c"]),
        (("test.thing.created",), ["a"]),
        (("test.thing.*",), ["a", "b"]),
        (("test.thing.created", "test.things.created"), ["a", "c"]),
        (("test.*",), ["a", "b", "c"]),
        (("other.*",), []),
    ],
)
async def test_types_are_exact_or_a_prefix(database: Database, types: tuple[str, ...], expected: list[str]) -> None:
    await _publish(database, "a", kind="test.thing.created")
    await _publish(database, "b", kind="test.thing.deleted")
    await _publish(database, "c", kind="test.things.created")
    page = await _read(database, types=types)
    assert _subjects(page) == expected
    assert page.after == (await _read(database)).after, "a cursor moves past what was filtered out"


@pytest.mark.parametrize("cursor", ["x", "1", "1.2.3", "-1.0", "1.g", "ffffffffffffffff.0", "1." + "0" * 40])
def test_a_cursor_of_somebody_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Position.parse(cursor)
    assert refused.value.reason == "CURSOR_INVALID"


async def test_a_trimmed_outbox_refuses_cursors_from_before(
    database: Database, later: Callable[[timedelta], None]
) -> None:
    await _publish(database, "a")
    old = (await _read(database)).after
    await _publish(database, "b")
    trimmed = (await _read(database)).after
    later(maintenance.KEEP_EVENTS * 2)
    await _publish(database, "c")
    await maintenance.trim(database)
    await maintenance.trim(database)
    assert _subjects(await _read(database)) == ["c"]
    assert _subjects(await _read(database, trimmed)) == ["c"]
    with pytest.raises(OutOfRange) as expired:
        await _read(database, old)
    assert expired.value.reason == "CURSOR_EXPIRED"
    assert expired.value.metadata == {"oldest_cursor": str(trimmed)}


async def test_replicas_that_trim_at_once_do_not_forget_how_far(
    database: Database, later: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_STEP", 2)
    await _publish(database, *"abcdef")
    positions = [position for position, _ in (await _read(database)).events]
    later(maintenance.KEEP_EVENTS * 2)
    await asyncio.gather(*(maintenance.trim(database) for _ in range(4)))
    for position in positions[:-1]:
        with pytest.raises(OutOfRange):
            await _read(database, position)
    assert (await _read(database, positions[-1])).events == ()


async def test_an_outbox_that_was_trimmed_empty_does_not_reuse_positions(
    database: Database, later: Callable[[timedelta], None]
) -> None:
    await _publish(database, "a")
    last = (await _read(database)).after
    later(maintenance.KEEP_EVENTS * 2)
    await maintenance.trim(database)
    assert (await _read(database, last)).events == ()
    await _publish(database, "b")
    assert _subjects(await _read(database, last)) == ["b"]


@pytest.mark.postgresql
async def test_a_late_commit_is_not_lost(postgres_server: PostgresServer) -> None:
    name = await postgres_server.create(None)
    async with databases.opened(postgres_server.url(name), service="test") as database:
        async with database.transaction(caller("ten-late")) as late:
            late.publish("test.thing.changed", "late", StringValue())
            await outbox.append(late.connection, late.events)
            late.events.clear()
            await _publish(database, "early")
            hidden = await _read(database)
            assert (_subjects(hidden), hidden.after, hidden.pending) == ([], BEGINNING, True)
            async with database.read(background()) as connection:
                assert await outbox.end(connection) == BEGINNING
        assert _subjects(await _read(database)) == ["late", "early"]
    await postgres_server.drop(name)
