"""What each call carries: token, correlation id, trace parent, deadline; and a line in the log when it ends."""

import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

LOG = logging.getLogger("client")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What every call of a channel carries, unary or stream. The token's file is read for each call, because whoever
    issues it replaces the file before the token expires. `timeout` is in seconds.
    """

    token_file: Path | None
    correlation_id: str
    timeout: float

    def interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """gRPC wants a class for each kind of call. StreamUnary and StreamStream go the same way."""
        return [_UnaryUnary(self), _UnaryStream(self)]

    def begin(self, details: grpc.aio.ClientCallDetails) -> "tuple[grpc.aio.ClientCallDetails, Ended]":
        """The call's details with its metadata and deadline, and what to call with its status when it has ended.

        A deadline of the caller's own stays, where it is the earlier one.
        """
        trace_id, begun = secrets.token_hex(16), time.monotonic()
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("x-correlation-id", self.correlation_id)
        metadata.add("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")
        if self.token_file is not None:
            metadata.add("authorization", f"Bearer {self.token_file.read_text().strip()}")
        timeout = self.timeout if details.timeout is None else min(self.timeout, details.timeout)
        path: str | bytes = details.method  # typed as str, and bytes at times
        method = path.decode() if isinstance(path, bytes) else path

        def ended(code: grpc.StatusCode) -> None:
            LOG.info(
                "method=%s code=%s seconds=%.3f correlation_id=%s trace_id=%s",
                method.lstrip("/"), code.name, time.monotonic() - begun, self.correlation_id, trace_id,
            )  # fmt: skip

        completed = grpc.aio.ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )
        return completed, ended


Ended = Callable[[grpc.StatusCode], None]


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details, ended = self._outgoing.begin(client_call_details)
        call = await continuation(details, request)
        ended(await call.code())
        return call


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details, ended = self._outgoing.begin(client_call_details)
        call = await continuation(details, request)

        async def answers() -> AsyncIterator[Any]:
            try:
                async for answer in call:
                    yield answer
            finally:
                call.cancel()  # does nothing to a stream that is at its end
                ended(await call.code())

        return answers()
