"""One RPC of any kind, as the interceptors see it.

gRPC has four kinds of methods; here they are one coroutine. A request stream is an iterator whose first message can be
looked at ahead of time, a response stream is written to the servicer context by the innermost step. So each concern is
written once, and put around a method once, when the server starts: as a gate where it only lets calls in, else as a
wrapper. Neighbouring gates share a coroutine, and a check that need not wait is a plain function: a frame for each
concern would cost every call.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError

from pyairtable_mesh.runtime.access import Row
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument


@dataclass(frozen=True, slots=True)
class Method:
    """The fixed facts of a method. `row` is None when this release does not implement it."""

    path: str
    descriptor: MethodDescriptor
    request_class: type[Any]
    response_class: type[Any]
    request_streaming: bool
    response_streaming: bool
    row: Row | None

    @property
    def name(self) -> str:
        """``package.Service/Method``, the form of `rpc.method` in OpenTelemetry's conventions."""
        return self.path[1:]


@dataclass(slots=True)
class Call:
    """An RPC in progress: what interceptors read and fill in on its way to the servicer.

    `request` is the message of a unary request, else the first message once `first` was awaited; `resources` are the
    references that the fields of the access row name.
    """

    method: Method
    rpc: grpc.aio.ServicerContext[Any, Any]
    metadata: Iterable[tuple[str, str | bytes]]
    request: Any = None
    requests: AsyncIterator[Any] | None = None
    context: RequestContext = field(init=False)
    traceparent: str = ""
    resources: dict[str, list[str]] = field(default_factory=dict)
    status: grpc.StatusCode = grpc.StatusCode.OK

    async def first(self) -> Any:
        """The unary request, or a request stream's first message, which the servicer still gets; None when empty."""
        if self.requests is not None and self.request is None:
            rest = self.requests
            self.request = await anext(rest, None)
            self.requests = _prepended(self.request, rest)
        return self.request

    def check_encoding(self) -> None:
        """`InvalidArgument` when the unary request's bytes are no message of its type."""
        if self.request is _UNREADABLE:
            raise _unreadable()


Proceed = Callable[[Call], Awaitable[Any]]
"""The rest of the stack: returns the response of a unary answer, None when the answer was streamed."""

Check = Callable[[Call], Awaitable[None] | None]
"""Lets a call in, or raises. What it returns is awaited first; None where there is nothing to wait for."""


@dataclass(frozen=True, slots=True)
class Gate:
    """An interceptor with nothing to do once a call is in. `check_of` gives the check of a method, if it needs one."""

    check_of: Callable[[Method], Check | None]


Wrapper = Callable[[Method, Proceed], Proceed]
"""An interceptor around the rest of the call. It may return `proceed` itself where its concern does not apply."""

Interceptor = Gate | Wrapper


_UNREADABLE = object()
"""Stands for bytes that are no message: what a deserializer raises, gRPC would tell the client."""


def _parser(kind: type[Any]) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _UNREADABLE

    return parse


def _unreadable() -> InvalidArgument:
    words = "the bytes are not a message of this method's request type"
    return InvalidArgument(words, [FieldViolation("request", words, "message.encoding")])


async def _readable(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        if message is _UNREADABLE:
            raise _unreadable()
        yield message


async def _prepended(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is None:
        return
    yield first
    async for message in rest:
        yield message


class _Writer:
    """Writes the messages of a stream, each while the next one is made or waited for: where the next question has come
    already, its answer does not wait for the one before to be on its way. One is under way at most, as gRPC wants it,
    so that a caller who does not read holds the stream up one message later.
    """

    def __init__(self, rpc: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._rpc = rpc
        self._writing: asyncio.Task[None] | None = None

    async def write(self, message: Any) -> None:
        """Begin to write a message, when the one before is written; raises what that one's writing did."""
        if self._writing is not None:
            await self._writing
        self._writing = asyncio.create_task(self._rpc.write(message))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """What was made before the stream failed still reaches the caller; what is cancelled waits for nobody."""
        if self._writing is None:
            return
        if kind is asyncio.CancelledError:
            self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=kind is not None)


def behaviour(method: Method, function: Callable[..., Any]) -> Proceed:
    """The innermost step: run the servicer's own function, whatever its kind."""

    async def unary(call: Call) -> Any:
        response = await function(call.request if call.requests is None else call.requests, call.rpc)
        # Found here it is an error like any other; found by gRPC, its text would go to the client.
        if not isinstance(response, method.response_class):
            raise TypeError(f"{method.name} answered with {type(response).__name__}")
        return response

    async def stream(call: Call) -> None:
        made = function(call.request if call.requests is None else call.requests, call.rpc)
        async with aclosing(made) as messages, _Writer(call.rpc) as writer:
            async for message in messages:
                await writer.write(message)

    return stream if method.response_streaming else unary


_arrived: ContextVar[Iterable[tuple[str, str | bytes]] | None] = ContextVar("pyairtable_metadata", default=None)


class Handlers(grpc.ServiceRpcHandler):
    """The handlers of a service's methods, by path.

    gRPC reads a call's metadata to look its handler up, and would read it anew for who asks the servicer context. Both
    happen in the call's own task, so it is kept for `Call.metadata` on the way.
    """

    def __init__(self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
        self._service = service
        self._handlers = handlers

    def service_name(self) -> str:
        """The service's full name."""
        return self._service

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """The handler of a call; None where it is another service's."""
        found = self._handlers.get(handler_call_details.method)
        if found is not None:
            _arrived.set(handler_call_details.invocation_metadata)
        return found


def handler(method: Method, proceed: Proceed) -> "grpc.RpcMethodHandler[Any, Any]":
    """The gRPC handler that starts the stack for each RPC of a method."""

    async def on_message(request: Any, context: Any) -> Any:
        return await proceed(Call(method, context, _arrived.get() or (), request=request))

    async def on_stream(requests: AsyncIterator[Any], context: Any) -> Any:
        return await proceed(Call(method, context, _arrived.get() or (), requests=_readable(requests)))

    make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.request_streaming, method.response_streaming]
    return make(
        on_stream if method.request_streaming else on_message,
        request_deserializer=_parser(method.request_class),
        response_serializer=method.response_class.SerializeToString,
    )


def wrap(method: Method, interceptors: tuple[Interceptor, ...], innermost: Proceed) -> Proceed:
    """The whole stack for one method; the first interceptor is outermost."""
    proceed = innermost
    checks: list[Check] = []
    for interceptor in reversed(interceptors):
        if not isinstance(interceptor, Gate):
            proceed = interceptor(method, _guarded(checks, proceed))
            checks = []
        elif check := interceptor.check_of(method):
            checks.insert(0, check)
    return _guarded(checks, proceed)


def _guarded(checks: Sequence[Check], proceed: Proceed) -> Proceed:
    """`proceed` behind the checks, in their order."""
    if not checks:
        return proceed
    in_turn = tuple(checks)

    async def run(call: Call) -> Any:
        for check in in_turn:
            waiting = check(call)
            if waiting is not None:
                await waiting
        return await proceed(call)

    return run
