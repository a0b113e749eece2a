"""Events that leave a service exactly when its change is committed: rows written in the change's own transaction.

Readers see a row when no earlier transaction is open any more. A sequence alone would not do: its numbers are given
out before the commit, and a reader that has seen 7 would never come back for a late 6. On PostgreSQL each row holds
the id of its transaction, readers stay below the oldest that is still running, and the order is (transaction, row);
writes of one tenant are serial (`database.py`), so that order holds per tenant and so per aggregate. On SQLite there
is one writer, and rows are ordered as they are committed.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.runtime.columns import insert_missing
from pyairtable_mesh.runtime.errors import InvalidArgument, OutOfRange
from pyairtable_mesh.runtime.tables import OUTBOX, RUNTIME_VALUES
from pyairtable_mesh.runtime.writes import Write

_TRIMMED = "outbox.trimmed"
MAX_DATA_BYTES = 256 * 1024
"""The largest `data` of an event: pages, streams and consumers are bounded by it."""
PAGE_BYTES = 1024 * 1024
_OVERHEAD_BYTES = 512
_CURSOR = re.compile(r"[0-7]?[0-9a-f]{1,15}\.[0-7]?[0-9a-f]{1,15}")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in the terms of CloudEvents 1.0.

    `type` is in the past tense (``permission.role_binding.created``), `source` the service (``/services/permission``),
    `subject` the resource name, `tenant_id` empty for what is global, `aggregate` what order is kept within.
    `data` is a serialised message of type `data_type` (a full protobuf name); `traceparent` a W3C trace context.
    """

    id: str
    type: str
    source: str
    subject: str
    time: datetime
    tenant_id: str
    aggregate: str
    data_type: str
    data: bytes
    traceparent: str = ""
    correlation_id: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in one outbox, before the first row at (0, 0); `str()` is the opaque cursor of the RPCs."""

    xid: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.xid:x}.{self.seq:x}"

    @classmethod
    def parse(cls, cursor: str) -> "Position":
        """The position of a cursor; the empty cursor is the beginning. InvalidArgument CURSOR_INVALID."""
        if not cursor:
            return cls()
        if not _CURSOR.fullmatch(cursor):
            raise InvalidArgument.of_field("cursor", "is not a cursor of this service", reason="CURSOR_INVALID")
        xid, seq = (int(part, 16) for part in cursor.split("."))
        return cls(xid, seq)


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order, each with the position after it; `after` is how far was looked, matching rows or not.

    `complete` is False when there is more to read now; `pending` says that rows exist which an open transaction hides.
    """

    events: Sequence[tuple[Position, Event]]
    after: Position
    complete: bool
    pending: bool


async def append(connection: AsyncConnection, events: Sequence[Event]) -> None:
    """Write `events` in the transaction of `connection`."""
    rows = [
        {
            "event_id": event.id,
            "tenant_id": event.tenant_id,
            "type": event.type,
            "source": event.source,
            "subject": event.subject,
            "aggregate": event.aggregate,
            "time": event.time,
            "traceparent": event.traceparent,
            "correlation_id": event.correlation_id,
            "data_type": event.data_type,
            "data": event.data,
        }
        for event in events
    ]
    await _APPEND[connection.dialect.name](connection, rows)


async def read(connection: AsyncConnection, after: Position, types: Sequence[str] = (), limit: int = 256) -> Page:
    """The next rows behind `after`, of `types` (all when empty; ``permission.role.*`` is a prefix), at most `limit`.

    `connection` must be a snapshot (`Database.read`): the end is looked up first and belongs to the same moment.
    OutOfRange CURSOR_EXPIRED when rows behind `after` have been trimmed.
    """
    await _refuse_trimmed(connection, after)
    visible = _visible(connection)
    newest = (await connection.execute(_newest(visible, after))).one_or_none()
    if newest is None:
        return Page((), after, complete=True, pending=False)
    wanted = select(OUTBOX).where(_after(after), visible).order_by(OUTBOX.c.xid, OUTBOX.c.seq).limit(limit)
    if types:
        wanted = wanted.where(or_(*map(_of_type, types)))
    rows = (await connection.execute(wanted)).all()
    events = _cut([(Position(row.xid, row.seq), _event(row)) for row in rows])
    complete = len(rows) < limit and len(events) == len(rows)
    if complete and newest.visible:
        after = Position(newest.xid, newest.seq)
    elif events:
        after = events[-1][0]
    return Page(events, after, complete=complete, pending=not newest.visible)


async def end(connection: AsyncConnection) -> Position:
    """The position behind all rows that readers may see now."""
    visible = _visible(connection)
    row = (await connection.execute(_newest(visible, Position()).where(visible))).one_or_none()
    return Position() if row is None else Position(row.xid, row.seq)


async def trim(connection: AsyncConnection, before: datetime, limit: int = 10_000) -> int:
    """Delete up to `limit` of the oldest rows that are older than `before`; how many were deleted.

    Remembers how far, so that a cursor from before it is refused instead of skipping what is gone. One at a time: the
    transaction holds a lock that every trimming takes.
    """
    oldest = select(OUTBOX.c.xid, OUTBOX.c.seq, OUTBOX.c.time).where(_visible(connection))
    rows = (await connection.execute(oldest.order_by(OUTBOX.c.xid, OUTBOX.c.seq).limit(limit))).all()
    gone = list(itertools.takewhile(lambda row: row.time < before, rows))
    if not gone:
        return 0
    await connection.execute(delete(OUTBOX).where(OUTBOX.c.seq.in_([row.seq for row in gone])))
    mark = str(Position(gone[-1].xid, gone[-1].seq)).encode()
    await connection.execute(insert_missing(RUNTIME_VALUES), {"name": _TRIMMED, "value": mark})
    await connection.execute(_SET_MARK, {"mark": mark})
    return len(gone)


def _number(xid8: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(cast(xid8, Text), BigInteger)


_APPEND = {
    "sqlite": Write(insert(OUTBOX).inline()),
    "postgresql": Write(insert(OUTBOX).inline().values(xid=_number(func.pg_current_xact_id()))),
}
_MARK = select(RUNTIME_VALUES.c.value).where(RUNTIME_VALUES.c.name == _TRIMMED)
_SET_MARK = update(RUNTIME_VALUES).where(RUNTIME_VALUES.c.name == _TRIMMED).values(value=bindparam("mark"))


def _cut(events: Sequence[tuple[Position, Event]]) -> Sequence[tuple[Position, Event]]:
    """The first events that fit into one message together; at least one."""
    sizes = itertools.accumulate(len(event.data) + _OVERHEAD_BYTES for _, event in events)
    return events[: max(1, sum(size <= PAGE_BYTES for size in sizes))]


async def _refuse_trimmed(connection: AsyncConnection, after: Position) -> None:
    if after == Position():
        return
    mark = (await connection.execute(_MARK)).scalar_one_or_none()
    if mark is not None and after < Position.parse(mark.decode()):
        raise OutOfRange(
            "events behind this cursor are no longer kept: read the present state, then subscribe with an empty cursor",
            reason="CURSOR_EXPIRED",
            metadata={"oldest_cursor": mark.decode()},
        )


def _after(position: Position) -> ColumnElement[bool]:
    xid = bindparam("after_xid", position.xid, OUTBOX.c.xid.type)
    seq = bindparam("after_seq", position.seq, OUTBOX.c.seq.type)
    return tuple_(OUTBOX.c.xid, OUTBOX.c.seq) > tuple_(xid, seq)


def _of_type(pattern: str) -> ColumnElement[bool]:
    if not pattern.endswith(".*"):
        return OUTBOX.c.type == pattern
    prefix = pattern[:-1]
    return and_(OUTBOX.c.type >= prefix, OUTBOX.c.type < prefix[:-1] + chr(ord(".") + 1))


def _newest(visible: ColumnElement[bool], after: Position) -> Select[tuple[int, int, bool]]:
    rows = select(OUTBOX.c.xid, OUTBOX.c.seq, visible.label("visible")).where(_after(after))
    return rows.order_by(OUTBOX.c.xid.desc(), OUTBOX.c.seq.desc()).limit(1)


def _visible(connection: AsyncConnection) -> ColumnElement[bool]:
    if connection.dialect.name != "postgresql":
        return literal(True)
    return OUTBOX.c.xid < _number(func.pg_snapshot_xmin(func.pg_current_snapshot()))


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.event_id,
        type=row.type,
        source=row.source,
        subject=row.subject,
        time=row.time,
        tenant_id=row.tenant_id,
        aggregate=row.aggregate,
        data_type=row.data_type,
        data=row.data,
        traceparent=row.traceparent,
        correlation_id=row.correlation_id,
    )
