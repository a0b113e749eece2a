"""Where our own RPCs meet the outside: requests are held against the schema, and errors leave in one form.

The runtime's interceptors do this for services; they bring its database and telemetry along, which a control plane has
no use for.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from pyairtable_mesh.runtime import errors, status
from pyairtable_mesh.runtime.validation import SchemaValidator

_log = logging.getLogger(__name__)


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps the methods of one service; ADS, health and reflection speak protocols of their own."""

    def __init__(self, service_name: str) -> None:
        self._prefix = f"/{service_name}/"
        self._validator = SchemaValidator()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a unary request, whether its answer is one or many."""
        handler: Any = await continuation(handler_call_details)
        if not handler_call_details.method.startswith(self._prefix) or handler is None:
            return handler
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), *codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream), *codecs)
        raise TypeError(f"{handler_call_details.method} streams requests")

    def _unary(self, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def run(request: Any, context: Any) -> Any:
            try:
                self._validator.check(request)
                return await method(request, context)
            except Exception as error:  # noqa: BLE001 - the one place where the unknown becomes INTERNAL
                return await _abort(error, context)

        return run

    def _stream(self, method: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def run(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                self._validator.check(request)
                async for response in method(request, context):
                    yield response
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(error, context)

        return run


async def _abort(error: Exception, context: Any) -> None:
    failure = error
    if not isinstance(failure, errors.MeshError):
        error_id = secrets.token_hex(8)
        _log.error("a status call failed", extra={"error_id": error_id}, exc_info=error)
        failure = errors.MeshError(f"internal error {error_id}; the log has its cause", metadata={"error_id": error_id})
    details = status.to_status(failure).SerializeToString()
    await context.abort(status.code_of(failure), failure.message, ((status.DETAILS_KEY, details),))
