"""Safe retries (AIP-155): a change that carries a `request_id` happens once and answers every repetition alike.

The record is a row in the change's own transaction, so there is no moment at which one exists without the other.
`Database.transaction` finds it when it writes its own on exit, and is rolled back; `Database.read`, where a change
reads before, looks for it on entry. What a change asks of its peers carries ids that come from its own
(`client.with_request_id`).
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.runtime.columns import by_key, delete_older, insert_missing
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.tables import IDEMPOTENCY
from pyairtable_mesh.runtime.writes import Write


class Replayed(Exception):
    """The request was answered before: no failure, the interceptor answers with the serialised `response`."""

    def __init__(self, response: bytes) -> None:
        super().__init__("this request was answered before")
        self.response = response


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a request the same request: who sent it, to which method, under which id, with which content."""

    tenant_id: str
    caller: str
    method: str
    request_id: str
    digest: bytes

    @classmethod
    def of(cls, caller: RequestContext) -> "Key | None":
        """The key of the RPC in hand; None when it has no request id."""
        if not caller.request_id:
            return None
        return cls(caller.tenant_id, caller.actor.subject, caller.method, caller.request_id, caller.request_digest)


@dataclass(frozen=True, slots=True)
class Record:
    """The answer that was given: a serialised response message."""

    response: bytes


_PRIMARY_KEY = ("tenant_id", "caller", "method", "request_id")
_BY_KEY = by_key(
    select(IDEMPOTENCY.c.request_digest, IDEMPOTENCY.c.response).where(
        *(IDEMPOTENCY.c[name] == bindparam(name) for name in _PRIMARY_KEY)
    )
)
_INSERT = Write(insert_missing(IDEMPOTENCY))


async def require_first(connection: AsyncConnection, caller: RequestContext) -> None:
    """`Replayed` when the RPC in hand was answered before; errors as for `lookup`."""
    key = Key.of(caller)
    if key is not None and (record := await lookup(connection, key)) is not None:
        raise Replayed(record.response)


async def lookup(connection: AsyncConnection, key: Key) -> Record | None:
    """The answer that `key` was given before, if any.

    InvalidArgument REQUEST_ID_REUSED when the id was used for another request.
    """
    row = (await connection.execute(_BY_KEY, {name: getattr(key, name) for name in _PRIMARY_KEY})).one_or_none()
    if row is None:
        return None
    if row.request_digest != key.digest:
        raise InvalidArgument.of_field(
            "request_id", "this id was used for a different request", reason="REQUEST_ID_REUSED"
        )
    return Record(row.response)


async def remember(connection: AsyncConnection, key: Key, response: bytes, now: datetime) -> None:
    """Write the answer down; `Replayed` when a concurrent twin of the request was faster (and is committed)."""
    values = {name: getattr(key, name) for name in _PRIMARY_KEY}
    row = {**values, "request_digest": key.digest, "response": response, "create_time": now}
    if await _INSERT(connection, [row]) == 0 and (record := await lookup(connection, key)) is not None:
        raise Replayed(record.response)


async def trim(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """Forget up to `limit` answers older than `before`; how many were forgotten."""
    return await delete_older(connection, IDEMPOTENCY, before, limit)
