"""Following another service's events, each handled once in effect.

The cursor is a row of the consumer's own database and moves in the transaction that handles the events: a crash before
the commit repeats both, a crash after it neither. Moving it is a compare-and-set, so of several replicas one does the
work; the others notice that they were overtaken, stand by, and take over when the cursor rests for too long.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable.common.v1 import events_pb2
from pyairtable_mesh.runtime.columns import insert_missing
from pyairtable_mesh.runtime.database import Database, Transaction, background
from pyairtable_mesh.runtime.errors import MeshError, OutOfRange
from pyairtable_mesh.runtime.tables import CONSUMED_EVENTS, CONSUMERS

_BATCH = 200
_logger = logging.getLogger(__name__)

Handler = Callable[[Transaction, Sequence[events_pb2.Event]], Awaitable[None]]
"""Applies new events, in order, in the transaction that also moves the cursor; raising rolls both back."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a sign of life is expected, and how long to wait before another try; in seconds."""

    heartbeat: float = 5.0
    first_delay: float = 0.1
    longest_delay: float = 10.0

    @property
    def silence(self) -> float:
        """After this long without a sign a connection is given up, or a replica's work taken over."""
        return 3 * self.heartbeat


class EventStream(Protocol):
    """The part of `EventServiceStub` that a consumer uses."""

    def Subscribe(self, request: events_pb2.SubscribeRequest) -> AsyncIterable[events_pb2.SubscribeResponse]:
        """Server stream."""


class OvertakenError(Exception):
    """Another replica has moved the cursor."""


_MOVE = (
    update(CONSUMERS)
    .where(CONSUMERS.c.name == bindparam("consumer"), CONSUMERS.c.cursor == bindparam("before"))
    .values(cursor=bindparam("after"), update_time=bindparam("now"))
)


class EventConsumer:
    """Feeds the events of one service to a handler, for ever.

    `name` is the consumer's own and stays the same between releases; `types` as in EventFilter, all when empty.
    """

    def __init__(
        self,
        name: str,
        stream: EventStream,
        database: Database,
        handler: Handler,
        *,
        types: Sequence[str] = (),
        patience: Patience = Patience(),
    ) -> None:
        self._name = name
        self._stream = stream
        self._database = database
        self._handler = handler
        self._types = types
        self._patience = patience
        self._delay = patience.first_delay

    async def run(self) -> None:
        """Consume until cancelled: whatever goes wrong is logged, and tried again after a growing delay."""
        while True:
            try:
                await self._take_part()
            except MeshError as error:
                self._tell_interruption(error.reason)
            except TimeoutError:
                self._tell_interruption("no sign of life")
            except Exception:
                _logger.exception("consumer %s failed and will try again", self._name)
            await asyncio.sleep(self._delay * (0.5 + random.random()))  # noqa: S311 - spreads reconnects
            self._delay = min(self._delay * 2, self._patience.longest_delay)

    async def _take_part(self) -> None:
        try:
            await self._follow()
        except OvertakenError:
            await self._stand_by()
        except OutOfRange as error:
            if error.reason != "CURSOR_EXPIRED":
                raise
            _logger.exception("consumer %s: events were trimmed before they were read; going on", self._name)
            await self._forget_cursor()

    def _tell_interruption(self, reason: str) -> None:
        first = self._delay == self._patience.first_delay
        # A stream ends with the token that it was begun with, and goes on with the next.
        level = logging.INFO if reason == "TOKEN_EXPIRED" else logging.WARNING
        _logger.log(level if first else logging.DEBUG, "consumer %s is interrupted: %s", self._name, reason)

    async def _follow(self) -> None:
        cursor = await self._cursor()
        heartbeat = Duration()
        heartbeat.FromTimedelta(timedelta(seconds=self._patience.heartbeat))
        request = events_pb2.SubscribeRequest(
            cursor=cursor,
            filter=events_pb2.EventFilter(types=self._types),
            heartbeat_interval=heartbeat,
            max_batch_size=_BATCH,
        )
        responses = aiter(self._stream.Subscribe(request))
        while True:
            # A stream that is silent for longer than its heartbeat is a connection that nobody has closed.
            async with asyncio.timeout(self._patience.silence):
                response = await anext(responses, None)
            if response is None:
                return
            await self._apply(cursor, response)
            cursor = response.cursor
            self._delay = self._patience.first_delay

    async def _apply(self, before: str, response: events_pb2.SubscribeResponse) -> None:
        async with self._database.transaction(background()) as transaction:
            await self._move(transaction.connection, before, response.cursor, transaction.now)
            fresh = await self._unseen(transaction.connection, response.events, transaction.now)
            if fresh:
                await self._handler(transaction, fresh)

    async def _move(self, connection: AsyncConnection, before: str, after: str, now: datetime) -> None:
        values = {"consumer": self._name, "before": before, "after": after, "now": now}
        if (await connection.execute(_MOVE, values)).rowcount != 1:
            raise OvertakenError

    async def _unseen(
        self, connection: AsyncConnection, events: Sequence[events_pb2.Event], now: datetime
    ) -> Sequence[events_pb2.Event]:
        if not events:
            return ()
        by_id = {event.id: event for event in events}
        mine = CONSUMED_EVENTS.c.consumer == self._name
        seen = await connection.execute(
            select(CONSUMED_EVENTS.c.event_id).where(mine, CONSUMED_EVENTS.c.event_id.in_(by_id))
        )
        for event_id in seen.scalars():
            del by_id[event_id]
        if by_id:
            rows = [{"consumer": self._name, "event_id": event_id, "create_time": now} for event_id in by_id]
            await connection.execute(insert(CONSUMED_EVENTS), rows)
        return tuple(by_id.values())

    async def _cursor(self) -> str:
        mine = select(CONSUMERS.c.cursor).where(CONSUMERS.c.name == self._name)
        async with self._database.transaction(background()) as transaction:
            first = {"name": self._name, "cursor": "", "update_time": transaction.now}
            await transaction.connection.execute(insert_missing(CONSUMERS), first)
            cursor: str = (await transaction.connection.execute(mine)).scalar_one()
            return cursor

    async def _forget_cursor(self) -> None:
        async with self._database.transaction(background()) as transaction:
            forget = update(CONSUMERS).where(CONSUMERS.c.name == self._name).values(cursor="")
            await transaction.connection.execute(forget)

    async def _stand_by(self) -> None:
        """Return when whoever consumes in our place has not moved the cursor for some heartbeats."""
        last = select(CONSUMERS.c.update_time).where(CONSUMERS.c.name == self._name)
        while True:
            await asyncio.sleep(self._patience.heartbeat)
            async with self._database.transaction(background()) as transaction:
                moved: datetime = (await transaction.connection.execute(last)).scalar_one()
                if transaction.now - moved > timedelta(seconds=self._patience.silence):
                    return
