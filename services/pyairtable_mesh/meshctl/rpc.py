"""Calling any method by its descriptor, over a connection that tests can replace."""

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from pyairtable_mesh.meshctl import failures

Metadata = Sequence[tuple[str, str | bytes]]
Answer = TypeVar("Answer", bound=Message)

MAX_MESSAGE_BYTES = 64 << 20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    # The addresses are those of the mesh's own processes: a proxy of the environment has no part in it.
    ("grpc.enable_http_proxy", 0),
)


class Connection(Protocol):
    """An open way to a server."""

    def call(
        self,
        method: MethodDescriptor,
        requests: Sequence[Message],
        *,
        metadata: Metadata = (),
        seconds: float | None = None,
    ) -> AsyncIterator[Message]:
        """Send the requests and give the responses as they come; `seconds` are its deadline. Raises `CallError`."""


Connect = Callable[[str], AbstractAsyncContextManager[Connection]]
"""Opens a connection to ``host:port``; nothing is sent before the first call."""


class ChannelConnection:
    """A connection over a gRPC channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(
        self,
        method: MethodDescriptor,
        requests: Sequence[Message],
        *,
        metadata: Metadata = (),
        seconds: float | None = None,
    ) -> AsyncIterator[Message]:
        """See `Connection.call`."""
        multicallable = self._multicallable(method)
        outgoing: Any = list(requests) if method.client_streaming else requests[0]
        call = multicallable(outgoing, timeout=seconds, metadata=tuple(metadata))
        try:
            if method.server_streaming:
                async for response in call:
                    yield response
            else:
                yield await call
        except grpc.aio.AioRpcError as error:
            raise failures.of_rpc_error(error) from None
        finally:
            call.cancel()

    def _multicallable(self, method: MethodDescriptor) -> Any:
        makers = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }
        make: Any = makers[method.client_streaming, method.server_streaming]
        return make(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )


def is_loopback(address: str) -> bool:
    """Whether an address never leaves this machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[Connection]:
    """Open a plaintext connection: the laptop's processes, or a forwarded port."""
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        yield ChannelConnection(channel)


async def unary(
    connection: Connection,
    method: MethodDescriptor,
    request: Message,
    answer: type[Answer],
    *,
    metadata: Metadata = (),
    seconds: float = 5.0,
) -> Answer:
    """Call a unary method whose answer's type is known. Raises `CallError`."""
    async for response in connection.call(method, [request], metadata=metadata, seconds=seconds):
        if isinstance(response, answer):
            return response
    raise TypeError(f"{method.full_name} does not answer with {answer.__name__}")
