"""common.v1's EventService: every service with an outbox serves it, the same way.

A subscription is a loop over pages of the outbox. It holds one page at a time and reads the next when the client has
taken this one (gRPC's flow control), so a slow reader costs a page of memory and never more.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from pyairtable.common.v1 import events_pb2, events_pb2_grpc
from pyairtable_mesh.runtime import outbox
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.moments import to_timestamp, utc_now
from pyairtable_mesh.runtime.outbox import Event, Position
from pyairtable_mesh.runtime.signals import Signal

POLL_SECONDS = 1.0
"""How long an event of another process may stay unseen when its notification was lost."""
PENDING_SECONDS = 0.02
"""How soon to look again for an event that an open transaction still hides."""
HEARTBEAT_SECONDS = 15.0
BATCH = 256


class EventServicer(events_pb2_grpc.EventServiceServicer):
    """Streams the outbox of `database`, of all tenants, to the workloads that the access table names."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = utc_now, leaving: asyncio.Event | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._leaving = leaving or asyncio.Event()

    async def Subscribe(
        self, request: events_pb2.SubscribeRequest, context: Any
    ) -> AsyncIterator[events_pb2.SubscribeResponse]:
        """The first response comes at once, then whenever there are events, else at each heartbeat.

        It ends when the process leaves: the client resumes elsewhere, and the shutdown need not wait for it.
        """
        heartbeat = request.heartbeat_interval.ToTimedelta().total_seconds() or HEARTBEAT_SECONDS
        position = await self._start(request)
        due = time.monotonic()
        while not self._leaving.is_set():
            upcoming = self._database.changed.upcoming()
            page = await self._page(request, position)
            position = page.after
            if page.events or time.monotonic() >= due:
                yield self._response(page)
                due = time.monotonic() + heartbeat
            if page.complete:
                longest = PENDING_SECONDS if page.pending else POLL_SECONDS
                await Signal.wait(upcoming, max(0.0, min(longest, due - time.monotonic())))

    async def _start(self, request: events_pb2.SubscribeRequest) -> Position:
        if request.cursor or request.start_position != events_pb2.START_POSITION_LATEST:
            return Position.parse(request.cursor)
        async with self._database.read(background()) as connection:
            return await outbox.end(connection)

    async def _page(self, request: events_pb2.SubscribeRequest, after: Position) -> outbox.Page:
        async with self._database.read(background()) as connection:
            return await outbox.read(connection, after, request.filter.types, request.max_batch_size or BATCH)

    def _response(self, page: outbox.Page) -> events_pb2.SubscribeResponse:
        return events_pb2.SubscribeResponse(
            events=[event_message(position, event) for position, event in page.events],
            cursor=str(page.after),
            send_time=to_timestamp(self._clock()),
        )


def event_message(position: Position, event: Event) -> events_pb2.Event:
    """The event on the wire."""
    return events_pb2.Event(
        id=event.id,
        source=event.source,
        type=event.type,
        subject=event.subject,
        time=to_timestamp(event.time),
        tenant=f"tenants/{event.tenant_id}" if event.tenant_id else "",
        aggregate=event.aggregate,
        sequence=position.seq,
        traceparent=event.traceparent,
        correlation_id=event.correlation_id,
        data=AnyMessage(type_url=f"type.googleapis.com/{event.data_type}", value=event.data),
    )
