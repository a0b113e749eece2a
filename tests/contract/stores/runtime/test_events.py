import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy import text

from pyairtable.common.v1 import events_pb2
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import events
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.events import EventServicer
from tests.databases import PostgresServer, caller

LIMIT_SECONDS = 5.0


async def _publish(database: Database, *subjects: str, kind: str = "test.thing.changed") -> None:
    async with database.transaction(caller("ten1")) as tx:
        for subject in subjects:
            tx.publish(kind, subject, StringValue(value=subject))


@asynccontextmanager
async def _subscribed(database: Database, request: events_pb2.SubscribeRequest) -> AsyncIterator["_Responses"]:
    stream = EventServicer(database).Subscribe(request, None)
    try:
        yield _Responses(stream)
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


class _Responses:
    def __init__(self, stream: AsyncIterator[events_pb2.SubscribeResponse]) -> None:
        self._stream = stream

    async def next(self, awaited: str) -> events_pb2.SubscribeResponse:
        try:
            return await asyncio.wait_for(anext(self._stream), LIMIT_SECONDS)
        except TimeoutError:
            pytest.fail(f"no {awaited} within {LIMIT_SECONDS} s")


def _subjects(response: events_pb2.SubscribeResponse) -> list[str]:
    return [event.subject for event in response.events]


async def test_a_subscription_gets_what_is_kept_and_then_what_happens(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 10 * LIMIT_SECONDS)
    await _publish(database, "a", "b")
    async with _subscribed(database, events_pb2.SubscribeRequest()) as responses:
        first = await responses.next("kept events")
        assert _subjects(first) == ["a", "b"]
        coming = asyncio.create_task(responses.next("live event"))
        await _publish(database, "c")
        assert _subjects(await coming) == ["c"]
    async with _subscribed(database, events_pb2.SubscribeRequest(cursor=first.cursor)) as responses:
        assert _subjects(await responses.next("events behind the cursor")) == ["c"]


async def test_an_event_on_the_wire_is_a_cloudevent(database: Database) -> None:
    await _publish(database, "things/1")
    async with _subscribed(database, events_pb2.SubscribeRequest()) as responses:
        (event,) = (await responses.next("event")).events
    value = StringValue()
    assert event.data.Unpack(value)
    assert value.value == "things/1"
    assert (event.source, event.tenant, event.aggregate) == ("/services/test", "tenants/ten1", "things/1")
    assert event.sequence > 0
    assert event.correlation_id == "correlation-1"


async def test_silence_is_broken_by_heartbeats_that_carry_the_cursor(database: Database) -> None:
    await _publish(database, "a", kind="other.thing.changed")
    request = events_pb2.SubscribeRequest(
        filter=events_pb2.EventFilter(types=["test.*"]), heartbeat_interval=Duration(nanos=20_000_000)
    )
    async with _subscribed(database, request) as responses:
        heartbeats = [await responses.next("heartbeat") for _ in range(3)]
    assert [_subjects(heartbeat) for heartbeat in heartbeats] == [[], [], []]
    async with _subscribed(database, events_pb2.SubscribeRequest(cursor=heartbeats[-1].cursor)) as responses:
        assert _subjects(await responses.next("heartbeat")) == [], "the cursor is past what was filtered out"


async def test_from_now_on(database: Database) -> None:
    await _publish(database, "old")
    request = events_pb2.SubscribeRequest(start_position=events_pb2.START_POSITION_LATEST)
    async with _subscribed(database, request) as responses:
        assert _subjects(await responses.next("first response")) == []
        await _publish(database, "new")
        assert _subjects(await responses.next("event")) == ["new"]


async def test_batches_are_as_small_as_asked_for(database: Database) -> None:
    await _publish(database, *"abcde")
    async with _subscribed(database, events_pb2.SubscribeRequest(max_batch_size=2)) as responses:
        batches = [_subjects(await responses.next("batch")) for _ in range(3)]
    assert batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_cursor_of_somebody_else_is_refused(database: Database) -> None:
    async with _subscribed(database, events_pb2.SubscribeRequest(cursor="nonsense")) as responses:
        with pytest.raises(InvalidArgument) as refused:
            await responses.next("refusal")
    assert refused.value.reason == "CURSOR_INVALID"


@pytest.mark.postgresql
async def test_another_process_wakes_a_subscription_without_a_poll(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 10 * LIMIT_SECONDS)
    name = await postgres_server.create(None)
    url = postgres_server.url(name)
    async with (
        databases.opened(url, service="here") as here,
        databases.opened(url, service="there") as there,
        _subscribed(here, events_pb2.SubscribeRequest()) as responses,
    ):
        await responses.next("first response")
        await _both_listen(postgres_server, name)
        coming = asyncio.create_task(responses.next("event of another process"))
        await _publish(there, "a")
        assert _subjects(await coming) == ["a"]
    await postgres_server.drop(name)


async def _both_listen(server: PostgresServer, name: str) -> None:
    """PostgreSQL does not say who listens, but what a connection did last."""
    listening = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND query ~ '^(LISTEN|NOTIFY)'")
    async with databases.opened(server.url(name, "postgres"), service="watch") as database:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                async with database.read(databases.background()) as connection:
                    if (await connection.execute(listening, {"name": name})).scalar_one() >= 2:
                        return
                await asyncio.sleep(0.01)
