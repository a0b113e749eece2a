"""What every outgoing call gets: a deadline, the caller's metadata, a span and a duration, and errors of the tree."""

import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from opentelemetry import trace

from pyairtable_mesh.runtime import context, status
from pyairtable_mesh.runtime.errors import DeadlineExceeded
from pyairtable_mesh.runtime.telemetry import Telemetry, start_span, traceparent_of

DEFAULT_DEADLINE_SECONDS = 10.0
"""Deadline of a call that is made outside of any RPC and names none."""
MARGIN_SECONDS = 0.01
"""Kept of the caller's time, so that its answer can still be an error of ours and not a bare timeout."""

Metadata = Callable[[str], list[tuple[str, str]]]


class Outgoing:
    """The client side of one channel. gRPC wants a class for each kind of call; they share what is written here."""

    def __init__(self, service: str, telemetry: Telemetry, metadata: Metadata) -> None:
        self.service = service
        self._telemetry = telemetry
        self._metadata = metadata

    def interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """One interceptor for each kind of call."""
        return [_UnaryUnary(self), _UnaryStream(self), _StreamUnary(self), _StreamStream(self)]

    def begin(self, details: grpc.aio.ClientCallDetails, *, streaming: bool) -> "Sent":
        """Open the call's span and complete its details; `DeadlineExceeded` when the caller's time is already up."""
        path: str | bytes = details.method
        method = path.decode() if isinstance(path, bytes) else path
        timeout = self._timeout(details.timeout, streaming)
        current = trace.get_current_span().get_span_context()
        parent = current if current.is_valid else None
        span, _ = start_span(self._telemetry, method[1:], trace.SpanKind.CLIENT, parent)
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._metadata(traceparent_of(span)))
        completed = grpc.aio.ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )
        return Sent(completed, method[1:], span, self._telemetry, self.service)

    def _timeout(self, wanted: float | None, streaming: bool) -> float | None:
        call = context.current_or_none()
        remaining = call.remaining() if call is not None else float("inf")
        if remaining <= MARGIN_SECONDS:
            raise DeadlineExceeded(f"no time was left to call the {self.service} service")
        fallback = float("inf") if streaming else DEFAULT_DEADLINE_SECONDS
        shortest = min(remaining - MARGIN_SECONDS, wanted if wanted is not None else fallback)
        return None if shortest == float("inf") else shortest


class Sent:
    """A call on its way: how it ends goes to the span and the metric, once."""

    def __init__(
        self, details: grpc.aio.ClientCallDetails, method: str, span: trace.Span, telemetry: Telemetry, service: str
    ) -> None:
        self.details = details
        self.method = method
        self._span = span
        self._telemetry = telemetry
        self._service = service
        self._begun = time.perf_counter()

    def finish(self, code: grpc.StatusCode) -> None:
        """Record how the call ended."""
        self._telemetry.made.record(time.perf_counter() - self._begun, self.method, code)
        if self._span.is_recording():
            self._span.set_attributes({"rpc.response.status_code": code.name, "server.address": self._service})
            if code is not grpc.StatusCode.OK:
                self._span.set_status(trace.StatusCode.ERROR, code.name)
            self._span.end()

    async def answer(self, call: Any) -> Any:
        """Await a unary answer."""
        code = grpc.StatusCode.CANCELLED
        try:
            response = await call
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise status.from_rpc_error(error, self._service) from None
        finally:
            self.finish(code)
        return response

    async def answers(self, call: Any) -> AsyncIterator[Any]:
        """Pass a response stream on."""
        code = grpc.StatusCode.CANCELLED
        try:
            async for response in call:
                yield response
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise status.from_rpc_error(error, self._service) from None
        finally:
            if not call.done():
                call.cancel()
            self.finish(code)


def with_request_id(request: Any, method: str) -> Any:
    """Give a change that has none a request id (AIP-4235), so that a retry of it is recognised.

    Asked for by an RPC that has one itself it is always the same for that, so that its repetition repeats this too; in
    one RPC the same change of a peer is made once.
    """
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:
        return request
    call = context.current_or_none()
    if call is not None and call.request_id:
        content = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        made = uuid.uuid5(uuid.NAMESPACE_OID, f"{call.request_id} {call.method} {method} {content}")
    else:
        made = uuid.uuid4()
    identified = type(request)(request_id=str(made))
    identified.MergeFrom(request)
    return identified


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        sent = self._outgoing.begin(client_call_details, streaming=False)
        return await sent.answer(await continuation(sent.details, with_request_id(request, sent.method)))


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        sent = self._outgoing.begin(client_call_details, streaming=True)
        return sent.answers(await continuation(sent.details, request))


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        sent = self._outgoing.begin(client_call_details, streaming=True)
        return await sent.answer(await continuation(sent.details, request_iterator))


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        sent = self._outgoing.begin(client_call_details, streaming=True)
        return sent.answers(await continuation(sent.details, request_iterator))
