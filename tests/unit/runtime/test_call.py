"""How a stream's messages are written: each while the next one is made, and none that was made is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.interceptors.call import Call, Method, behaviour

METHOD = pb.DESCRIPTOR.services_by_name["PermissionService"].methods_by_name["StreamCheckPermissions"]
KINDS = pb.StreamCheckPermissionsRequest, pb.StreamCheckPermissionsResponse


class Rpc:
    """A caller who reads when it is let."""

    def __init__(self) -> None:
        self.reads, self.asked = asyncio.Event(), asyncio.Event()
        self.begun: list[int] = []
        self.written: list[int] = []

    async def write(self, message: int) -> None:
        self.begun.append(message)
        self.asked.set()
        await self.reads.wait()
        if message < 0:
            raise BrokenPipeError
        self.written.append(message)


class Stream:
    """A stream whose servicer makes these messages, and then raises what it is told to."""

    def __init__(self, *messages: int, error: Exception | None = None) -> None:
        self.made: list[int] = []
        self.closed = False
        self.rpc = Rpc()

        async def make(_requests: Any, _rpc: Any) -> AsyncIterator[int]:
            try:
                for message in messages:
                    self.made.append(message)
                    yield message
                if error is not None:
                    raise error
            finally:
                self.closed = True

        method = Method("/p.S/M", METHOD, *KINDS, request_streaming=True, response_streaming=True, row=None)
        rpc: Any = self.rpc
        call = Call(method, rpc, ())
        call.context = RequestContext(method.path)
        self.run = asyncio.ensure_future(behaviour(method, make)(call))

    async def until_held_up(self) -> None:
        """Until the caller does not read, and nothing is made any more."""
        await asyncio.wait_for(self.rpc.asked.wait(), 5)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_the_next_message_is_made_while_one_is_written_and_no_more_than_that() -> None:
    stream = Stream(1, 2, 3, 4)
    await stream.until_held_up()
    assert (stream.made, stream.rpc.begun) == ([1, 2], [1])
    stream.rpc.reads.set()
    await stream.run
    assert stream.rpc.written == [1, 2, 3, 4]


async def test_what_was_made_before_a_failure_is_written_before_it_is_told() -> None:
    stream = Stream(1, error=KeyError("later"))
    await stream.until_held_up()
    assert not stream.run.done()
    stream.rpc.reads.set()
    with pytest.raises(KeyError, match="later"):
        await stream.run
    assert stream.rpc.written == [1]


@pytest.mark.parametrize("messages", [(-1,), (-1, 2), (-1, 2, 3)])
async def test_a_write_that_fails_ends_the_stream(messages: tuple[int, ...]) -> None:
    stream = Stream(*messages)
    stream.rpc.reads.set()
    with pytest.raises(BrokenPipeError):
        await stream.run
    assert (stream.rpc.written, stream.closed) == ([], True)


@pytest.mark.parametrize("messages", [(1,), (1, 2, 3)])
async def test_a_stream_that_is_ended_waits_for_no_caller_who_does_not_read(messages: tuple[int, ...]) -> None:
    stream = Stream(*messages)
    await stream.until_held_up()
    stream.run.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await stream.run
    assert (stream.rpc.written, stream.closed) == ([], True)
