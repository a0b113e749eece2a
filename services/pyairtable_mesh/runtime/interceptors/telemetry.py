"""A span and a duration for each RPC: the lean default (pitfalls.md has what the official instrumentation costs)."""

import time
from typing import Any

import grpc
from opentelemetry import context as otel
from opentelemetry import trace

from pyairtable_mesh.runtime.durations import FAULTS
from pyairtable_mesh.runtime.interceptors.call import Call, Interceptor, Method, Proceed
from pyairtable_mesh.runtime.telemetry import Telemetry, start_server_span


def observe(telemetry: Telemetry, *, spans: bool) -> Interceptor:
    """Record `rpc.server.call.duration`, and with `spans` a server span whose parent is the caller's.

    Without, the span around the call is the official instrumentation's.
    """
    record = telemetry.served.record

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        name = method.name

        async def traced(call: Call) -> Any:
            span, inside, call.context.trace_id = start_server_span(telemetry, name, call.traceparent)
            # The RPC's task ends with it, so the context needs no detaching.
            otel.attach(inside)
            if not span.is_recording():
                return await proceed(call)
            try:
                return await proceed(call)
            finally:
                _finish(span, call)

        async def within(call: Call) -> Any:
            outer = trace.get_current_span().get_span_context()
            call.context.trace_id = f"{outer.trace_id:032x}" if outer.is_valid else ""
            return await proceed(call)

        inner = traced if spans else within

        async def run(call: Call) -> Any:
            begun = time.perf_counter()
            try:
                return await inner(call)
            finally:
                record(time.perf_counter() - begun, name, call.status)

        return run

    return intercept


def _finish(span: trace.Span, call: Call) -> None:
    span.set_attribute("rpc.response.status_code", call.status.name)
    span.set_attribute("pyairtable.correlation_id", call.context.correlation_id)
    if call.context.tenant_id:
        span.set_attribute("pyairtable.tenant", call.context.tenant_id)
    if call.status in FAULTS:
        span.set_status(trace.StatusCode.ERROR, call.status.name)
    elif call.status is grpc.StatusCode.CANCELLED:
        span.add_event("cancelled by the caller")
    span.end()
