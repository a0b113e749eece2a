"""AIP-155 held for a whole service: a request that was answered before gets the same answer, and is not done again.

A service's examples are a table of functions by the name of the RPC, with what is special about it behind a comma. Each
prepares what its request needs and says what is asked more than once. What a request has done, and its repetition has
not, is seen in the rows of every table.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from sqlalchemy import inspect, text

from pyairtable_mesh.runtime.builder import runtime_access
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.service import Service
from tests.contract.permission.serving import Metadata, details_of

State = dict[str, list[str]]
"""The rows of each table."""
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What is the same on both databases is held by tests/contract/stores/runtime/test_idempotency.py."""


async def nothing(_answer: Any) -> None:
    """What happens where it is enough that the request was done."""


@dataclass(frozen=True)
class Repeated:
    """A request that is made more than once."""

    request: Message
    """Without its `request_id`."""
    other: Mapping[str, Any]
    """Fields that make it a different request."""
    metadata: Metadata
    then: Callable[[Any], Awaitable[Any]] = nothing
    """What others do between the repetitions, with the first answer in hand."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    async def ask(self, stub: Any, **other: Any) -> Any:
        request = type(self.request)(request_id=self.request_id)
        request.MergeFrom(self.request)
        request.MergeFrom(type(self.request)(**other))
        return await ask(stub, request, self.metadata)


async def ask(stub: Any, request: Message, metadata: Metadata) -> Any:
    """The answer of the RPC that has this request."""
    return await getattr(stub, request.DESCRIPTOR.name.removesuffix("Request"))(request, metadata=metadata)


def identified(service: Service[Any]) -> set[str]:
    """The RPCs that a process of the service answers and whose request has a `request_id`."""
    pool, tables = descriptor_pool.Default(), {**service.access, **runtime_access(service.subscribers)}
    return {
        method
        for name, table in tables.items()
        for method in table
        if "request_id" in pool.FindServiceByName(name).methods_by_name[method].input_type.fields_by_name
    }


def exampled(examples: Mapping[str, Any]) -> set[str]:
    """The RPCs that a table of examples has."""
    return {name.partition(",")[0] for name in examples}


async def stored(database: Database) -> State:
    """All that is in a database."""
    async with database.read(background()) as connection:
        names = await connection.run_sync(lambda each: inspect(each).get_table_names())
        rows = {name: await connection.execute(text(f'SELECT * FROM "{name}"')) for name in names}
        return {name: sorted(map(repr, found)) for name, found in rows.items()}


async def require_idempotent(stub: Any, repeated: Repeated, seen: Callable[[], Awaitable[State]]) -> None:
    """The first answer is every answer, at once and when the world has moved on; with other content the id is refused;
    and what is `seen` stays as it was.
    """
    before = await seen()
    first = await repeated.ask(stub)
    assert "idempotency" in _differing(before, await seen()), "the answer is kept nowhere"
    for move in (nothing, repeated.then):
        await move(first)
        before = await seen()
        again = await repeated.ask(stub)
        assert _bytes(again) == _bytes(first), f"first\n{first}\nthen\n{again}"
        refused = await _refusal(repeated.ask(stub, **repeated.other))
        assert refused == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", ["request_id"]), refused
        assert not (changed := _differing(before, await seen())), f"done again, as {changed} show"


async def _refusal(call: Awaitable[Message]) -> tuple[grpc.StatusCode, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return (caught.value.code(), *details_of(caught.value))


def _bytes(answer: Message) -> bytes:
    return answer.SerializeToString(deterministic=True)


def _differing(before: State, after: State) -> set[str]:
    return {name for name in before if before[name] != after[name]}
