import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pyairtable.common.v1 import events_pb2
from pyairtable_mesh.runtime.consumers import EventConsumer, OvertakenError, Patience
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, Transaction
from pyairtable_mesh.runtime.errors import OutOfRange, Unavailable

LIMIT_SECONDS = 5.0


@dataclass
class FakeStream:
    """Serves event ids; a cursor is how many of them were seen. `failures` are raised first, one per subscription."""

    ids: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    cursors: list[str] = field(default_factory=list)
    ends: bool = False

    async def Subscribe(self, request: events_pb2.SubscribeRequest) -> AsyncIterator[events_pb2.SubscribeResponse]:
        self.cursors.append(request.cursor)
        if self.failures:
            raise self.failures.pop(0)
        for index in range(int(request.cursor or 0), len(self.ids)):
            event = events_pb2.Event(id=self.ids[index], tenant="tenants/ten1")
            yield events_pb2.SubscribeResponse(events=[event], cursor=str(index + 1))
        if not self.ends:
            await asyncio.Event().wait()


@dataclass
class Handled:
    """A handler that writes down what it did when its transaction is committed, and can crash before that."""

    crashes: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, tx: Transaction, events: Sequence[events_pb2.Event]) -> None:
        if self.crashes:
            self.crashes -= 1
            raise RuntimeError("crash before the commit")
        async with self.changed:
            self.seen.update(event.id for event in events)
            self.changed.notify_all()

    async def until(self, *ids: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_SECONDS), self.changed:
                await self.changed.wait_for(lambda: set(ids) <= set(self.seen))
        except TimeoutError:
            pytest.fail(f"{ids} were not handled within {LIMIT_SECONDS} s, only {self.seen}")


@asynccontextmanager
async def _running(*sources: EventConsumer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(consumer.run()) for consumer in sources]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _consumer(stream: FakeStream, database: Database, handled: Handled) -> EventConsumer:
    patience = Patience(heartbeat=0.1, first_delay=0.001, longest_delay=0.01)
    return EventConsumer("audit", stream, database, handled, patience=patience)


async def test_every_event_is_handled_once_and_the_cursor_is_kept(database: Database) -> None:
    stream, handled = FakeStream(["e1", "e2"]), Handled()
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e1", "e2")
    stream.ids.append("e3")
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e3")
    assert handled.seen == {"e1": 1, "e2": 1, "e3": 1}
    assert stream.cursors == ["", "2"]


async def test_a_crash_before_the_commit_repeats_the_event(database: Database) -> None:
    stream, handled = FakeStream(["e1"]), Handled(crashes=2)
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e1")
    assert stream.cursors == ["", "", ""]


async def test_a_source_that_is_away_or_ends_is_asked_again(database: Database) -> None:
    stream = FakeStream(["e1"], failures=[Unavailable("away"), Unavailable("away")], ends=True)
    handled = Handled()
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e1")
        stream.ids.append("e2")
        await handled.until("e2")
    assert handled.seen == {"e1": 1, "e2": 1}


async def test_a_silent_source_is_asked_again(database: Database) -> None:
    stream, handled = FakeStream(["e1"]), Handled()
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e1")
        stream.ids.append("e2")
        await handled.until("e2")
    assert stream.cursors == ["", "1"]


async def test_an_event_that_comes_twice_is_handled_once(database: Database) -> None:
    stream, handled = FakeStream(["e1", "e1", "e2"]), Handled()
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e2")
    assert handled.seen == {"e1": 1, "e2": 1}


async def test_an_expired_cursor_begins_again_without_repeating_itself(database: Database) -> None:
    stream, handled = FakeStream(["e1", "e2"]), Handled()
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e2")
    stream.failures.append(OutOfRange("gone", reason="CURSOR_EXPIRED"))
    stream.ids.append("e3")
    async with _running(_consumer(stream, database, handled)):
        await handled.until("e3")
    assert handled.seen == {"e1": 1, "e2": 1, "e3": 1}
    assert stream.cursors == ["", "2", ""]


@dataclass
class Blinking:
    """A database whose transactions fail from the first on for some time: those in `away`, counted from 0."""

    database: Database
    away: range
    begun: int = 0

    @asynccontextmanager
    async def transaction(self, caller: RequestContext) -> AsyncIterator[Transaction]:
        self.begun += 1
        if self.begun - 1 in self.away:
            raise Unavailable("away")
        async with self.database.transaction(caller) as tx:
            yield tx


@pytest.mark.parametrize(
    "failure", [OutOfRange("gone", reason="CURSOR_EXPIRED"), OvertakenError()], ids=["forgetting", "standing by"]
)
async def test_a_database_that_blinks_at_any_moment_ends_no_consumer(database: Database, failure: Exception) -> None:
    stream, handled = FakeStream(["e1"], failures=[failure]), Handled()
    blinking = Blinking(database, away=range(1, 4))
    async with _running(_consumer(stream, blinking, handled)):  # type: ignore[arg-type]
        await handled.until("e1")
    assert blinking.begun > blinking.away.stop


async def test_of_two_replicas_each_event_is_handled_by_one(database: Database) -> None:
    stream, handled = FakeStream([f"e{number}" for number in range(30)]), Handled()
    replicas = [_consumer(stream, database, handled) for _ in range(2)]
    async with _running(*replicas):
        await handled.until(*stream.ids)
    assert set(handled.seen.values()) == {1}


@pytest.mark.parametrize("killed", [0, 1])
async def test_whichever_replica_is_left_goes_on(database: Database, killed: int) -> None:
    stream, handled = FakeStream(["e1", "e2"]), Handled()
    replicas = [_consumer(stream, database, handled) for _ in range(2)]
    async with _running(replicas[1 - killed]):
        async with _running(replicas[killed]):
            await handled.until("e1", "e2")
        stream.ids.append("e3")
        await handled.until("e3")
    assert handled.seen == {"e1": 1, "e2": 1, "e3": 1}
