"""OpenTelemetry of a process: traces, metrics, and how W3C trace context goes from hop to hop.

Spans and metrics go to an OTLP endpoint when the environment names one (``OTEL_EXPORTER_OTLP_ENDPOINT``); metrics are
always served to Prometheus. Names follow the semantic conventions 1.45 for RPC.
"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from pyairtable_mesh.runtime.errors import Unavailable

SERVER_DURATION = "rpc.server.call.duration"
CLIENT_DURATION = "rpc.client.call.duration"
BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that mark a server's span as an error; the others are the caller's business (semantic conventions)."""
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The process's tracer and instruments; `close` flushes what is still held."""

    tracer: trace.Tracer
    server_duration: Histogram
    client_duration: Histogram
    traces: TracerProvider
    metrics: MeterProvider

    def close(self) -> None:
        """Export what is left, each signal for at most five seconds; blocking."""
        self.traces.force_flush(5000)
        self.traces.shutdown()
        self.metrics.shutdown(5000)


def start(service: str, *, namespace: str, instance: str, sample_ratio: float) -> Telemetry:
    """Build the providers; nothing global is set, so that a process can hold several (tests do)."""
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": namespace,
            "service.instance.id": instance,
            "service.version": version("pyairtable-mesh"),
        }
    )
    traces = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sample_ratio)), resource=resource)
    readers: list[MetricReader] = [PrometheusMetricReader()]
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        _export_over_otlp(traces, readers)
    metrics = MeterProvider(metric_readers=readers, resource=resource)
    meter = metrics.get_meter("pyairtable_mesh")
    return Telemetry(
        traces.get_tracer("pyairtable_mesh"),
        _duration(meter, SERVER_DURATION, "Duration of RPCs that were served."),
        _duration(meter, CLIENT_DURATION, "Duration of RPCs that were made."),
        traces,
        metrics,
    )


def _duration(meter: Meter, name: str, description: str) -> Histogram:
    return meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=BUCKETS_SECONDS
    )


def official(choice: str, telemetry: Telemetry) -> list[grpc.aio.ServerInterceptor]:
    """The server interceptors of `opentelemetry-instrumentation-grpc` when they are chosen; needs the extra."""
    if choice != "official":
        return []
    try:
        from opentelemetry.instrumentation.grpc import aio_server_interceptor  # noqa: PLC0415 - an extra
    except ImportError:
        words = "PYAIRTABLE_TELEMETRY_GRPC=official needs the extra: pip install 'pyairtable-mesh[telemetry-official]'"
        raise Unavailable(words) from None
    make: Callable[..., grpc.aio.ServerInterceptor] = aio_server_interceptor
    return [make(tracer_provider=telemetry.traces)]


def _export_over_otlp(traces: TracerProvider, readers: list[MetricReader]) -> None:
    # Imported here: 300 ms and 20 MB that a process without an endpoint does not pay.
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    logging.getLogger(__name__).info("telemetry goes to %s", os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])


def parent_context(traceparent: str) -> Context:
    """The remote parent of a W3C ``traceparent``; an empty context when it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return Context()
    flags = trace.TraceFlags(int(match[3], 16))
    remote = trace.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(remote), Context()) if remote.is_valid else Context()


def traceparent_of(span: trace.Span) -> str:
    """The header that makes `span` the parent of a call; empty when there is no valid span."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


@lru_cache(maxsize=4096)
def attributes(method: str, code: grpc.StatusCode) -> dict[str, str]:
    """Attributes of the duration metrics, made once for each method and code."""
    common = {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": code.name}
    return {**common, "error.type": code.name} if code in SERVER_FAULTS else common
