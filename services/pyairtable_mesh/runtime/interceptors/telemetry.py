"""A span and a duration for each RPC: the lean default (pitfalls.md has what the official instrumentation costs)."""

from time import perf_counter
from typing import Any

import grpc
from opentelemetry import context as otel
from opentelemetry import trace

from pyairtable_mesh.runtime.durations import FAULTS
from pyairtable_mesh.runtime.interceptors.call import Call, Method, Proceed, Wrapper
from pyairtable_mesh.runtime.telemetry import Telemetry, start_server_span


def observe(telemetry: Telemetry, *, spans: bool) -> Wrapper:
    """Record `rpc.server.call.duration`, and with `spans` a server span whose parent is the caller's.

    Without, the span around the call is the official instrumentation's.
    """
    record = telemetry.served.record

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        name = method.name

        def begin(call: Call) -> trace.Span | None:
            span, inside, call.context.trace_id = start_server_span(telemetry, name, call.traceparent)
            # The RPC's task ends with it, so the context needs no detaching.
            otel.attach(inside)
            return span if span.is_recording() else None

        def join(call: Call) -> None:
            outer = trace.get_current_span().get_span_context()
            call.context.trace_id = f"{outer.trace_id:032x}" if outer.is_valid else ""

        enter = begin if spans else join

        async def run(call: Call) -> Any:
            begun = perf_counter()
            span = enter(call)
            try:
                return await proceed(call)
            finally:
                if span is not None:
                    _finish(span, call)
                record(perf_counter() - begun, name, call.status)

        return run

    return intercept


def _finish(span: trace.Span, call: Call) -> None:
    tenant = {"pyairtable.tenant": call.context.tenant_id} if call.context.tenant_id else {}
    known = {"rpc.response.status_code": call.status.name, "pyairtable.correlation_id": call.context.correlation_id}
    span.set_attributes({**known, **tenant})
    if call.status in FAULTS:
        span.set_status(trace.StatusCode.ERROR, call.status.name)
    elif call.status is grpc.StatusCode.CANCELLED:
        span.add_event("cancelled by the caller")
    span.end()
