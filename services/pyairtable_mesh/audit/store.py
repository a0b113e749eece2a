"""Chains in the database. A store has no opinion: it reads and writes rows, in the order of the chain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.audit import domain
from pyairtable_mesh.audit.domain import Entry, Head, Link, Position, Sealed
from pyairtable_mesh.audit.tables import CHAINS, EVENTS, PERSONAL_DATA
from pyairtable_mesh.audit.verification import Stored
from pyairtable_mesh.runtime.columns import insert_missing
from pyairtable_mesh.runtime.errors import FailedPrecondition
from pyairtable_mesh.runtime.filters import Filter, condition

FILTER_COLUMNS = {
    "event_time": EVENTS.c.event_time,
    "actor.subject": EVENTS.c.subject,
    "actor.workload": EVENTS.c.workload,
    "action": EVENTS.c.action,
    "resource": EVENTS.c.resource,
    "outcome": EVENTS.c.outcome,
    "correlation_id": EVENTS.c.correlation_id,
    "trace_id": EVENTS.c.trace_id,
}
_COPIED = (
    "event_id",
    "event_time",
    "subject",
    "workload",
    "action",
    "resource",
    "outcome",
    "correlation_id",
    "trace_id",
)
_MOVE_HEAD = (
    update(CHAINS)
    .where(CHAINS.c.tenant_id == bindparam("tenant"))
    .values(sequence=bindparam("last"), hash=bindparam("last_hash"))
)


class Store:
    """Every method works on the connection it is given, inside of whatever transaction that is in."""

    async def head(self, connection: AsyncConnection, tenant_id: str) -> Head:
        """The end of a tenant's chain."""
        query = select(CHAINS.c.sequence, CHAINS.c.hash).where(CHAINS.c.tenant_id == tenant_id)
        row = (await connection.execute(query)).one_or_none()
        return Head(row.sequence, row.hash) if row else Head()

    async def append(self, connection: AsyncConnection, tenant_id: str, links: Sequence[Link]) -> None:
        """Write `links`, which go on from the chain's head, and move the head."""
        await connection.execute(insert(EVENTS), [_event_row(link) for link in links])
        personal = [_personal_row(tenant_id, link.sequence, link.personal) for link in links if link.personal]
        if personal:
            await connection.execute(insert(PERSONAL_DATA), personal)
        first = {"tenant_id": tenant_id, "sequence": 0, "hash": domain.GENESIS}
        await connection.execute(insert_missing(CHAINS), first)
        moved = {"tenant": tenant_id, "last": links[-1].sequence, "last_hash": links[-1].hash}
        await connection.execute(_MOVE_HEAD, moved)

    async def positions(
        self, connection: AsyncConnection, tenant_id: str, event_ids: Collection[str]
    ) -> Mapping[str, Position]:
        """Where those of `event_ids` stand that are written."""
        query = select(EVENTS.c.event_id, EVENTS.c.audit_id, EVENTS.c.sequence, EVENTS.c.hash).where(
            EVENTS.c.tenant_id == tenant_id, EVENTS.c.event_id.in_(event_ids)
        )
        rows = (await connection.execute(query)).all()
        return {row.event_id: Position(row.audit_id, row.sequence, row.hash) for row in rows}

    async def hashes(
        self, connection: AsyncConnection, tenant_id: str, sequences: Collection[int]
    ) -> Mapping[int, bytes]:
        """The hashes at `sequences`, of those that are there."""
        query = select(EVENTS.c.sequence, EVENTS.c.hash).where(
            EVENTS.c.tenant_id == tenant_id, EVENTS.c.sequence.in_(sequences)
        )
        return {row.sequence: row.hash for row in (await connection.execute(query)).all()}

    async def page(
        self,
        connection: AsyncConnection,
        tenant_id: str,
        where: Filter,
        *,
        after: int | None,
        descending: bool,
        limit: int,
    ) -> Sequence[Link]:
        """At most `limit` links that `where` is true of, behind the number `after` in the direction asked for."""
        query = _with_personal().where(EVENTS.c.tenant_id == tenant_id, condition(where, FILTER_COLUMNS))
        if after is not None:
            query = query.where(EVENTS.c.sequence < after if descending else EVENTS.c.sequence > after)
        order = EVENTS.c.sequence.desc() if descending else EVENTS.c.sequence.asc()
        return [_link(row) for row in (await connection.execute(query.order_by(order).limit(limit))).all()]

    async def rows(
        self, connection: AsyncConnection, tenant_id: str, after: int, last: int, limit: int
    ) -> Sequence[Stored]:
        """At most `limit` rows behind `after` up to `last`, as they are, to be verified."""
        query = _with_personal().where(
            EVENTS.c.tenant_id == tenant_id, EVENTS.c.sequence > after, EVENTS.c.sequence <= last
        )
        rows = (await connection.execute(query.order_by(EVENTS.c.sequence).limit(limit))).all()
        return [_stored(row) for row in rows]


def _with_personal() -> Select[Any]:
    beside = and_(PERSONAL_DATA.c.tenant_id == EVENTS.c.tenant_id, PERSONAL_DATA.c.sequence == EVENTS.c.sequence)
    return select(EVENTS, PERSONAL_DATA.c.salt, PERSONAL_DATA.c.data).outerjoin_from(EVENTS, PERSONAL_DATA, beside)


def _event_row(link: Link) -> dict[str, object]:
    return {
        "tenant_id": link.entry.tenant_id,
        "sequence": link.sequence,
        "audit_id": link.audit_id,
        "content": domain.content(link.audit_id, link.sequence, link.entry, link.personal_digest),
        "previous_hash": link.previous_hash,
        "hash": link.hash,
        **_copied(link.entry),
    }


def _copied(entry: Entry) -> dict[str, object]:
    """The columns that repeat the content; PostgreSQL's texts have no NUL."""
    values = {name: getattr(entry, name) for name in _COPIED}
    return {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in values.items()}


def _personal_row(tenant_id: str, sequence: int, sealed: Sealed) -> dict[str, object]:
    return {"tenant_id": tenant_id, "sequence": sequence, "salt": sealed.salt, "data": sealed.data}


def _personal(row: Row[Any]) -> Sealed | None:
    return Sealed(row.salt, row.data) if row.salt is not None else None


def _link(row: Row[Any]) -> Link:
    try:
        audit_id, sequence, entry, digest = domain.from_content(row.content)
    except ValueError:
        words = f"event {row.sequence} of the log is damaged: VerifyAuditLog says where it breaks"
        raise FailedPrecondition(words, reason="AUDIT_LOG_BROKEN") from None
    return Link(audit_id, sequence, entry, digest, row.previous_hash, row.hash, _personal(row))


def _stored(row: Row[Any]) -> Stored:
    columns = {name: getattr(row, name) for name in ("tenant_id", "sequence", "audit_id", *_COPIED)}
    try:
        audit_id, sequence, entry, digest = domain.from_content(row.content)
        expected = {"tenant_id": entry.tenant_id, "sequence": sequence, "audit_id": audit_id, **_copied(entry)}
    except ValueError:
        expected, digest = None, b""
    return Stored(
        audit_id=row.audit_id,
        sequence=row.sequence,
        content=row.content,
        previous_hash=row.previous_hash,
        hash=row.hash,
        columns=columns,
        expected_columns=expected,
        personal_digest=digest,
        personal=_personal(row),
    )
