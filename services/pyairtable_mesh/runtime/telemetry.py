"""OpenTelemetry of a process: traces, metrics, and how W3C trace context goes from hop to hop.

Spans, metrics and logs go to an OTLP endpoint when the environment names one (``OTEL_EXPORTER_OTLP_ENDPOINT``);
metrics are always served to Prometheus, logs always written to standard error. Names follow the semantic conventions
1.45 for RPC.
"""

import inspect
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry

from pyairtable_mesh.runtime.durations import Durations, ExportingReader, PrometheusReader
from pyairtable_mesh.runtime.errors import Unavailable

SERVER_DURATION = "rpc.server.call.duration"
CLIENT_DURATION = "rpc.client.call.duration"
DEPENDENCY_UP = "pyairtable.dependency.up"
_NO_CONTEXT = Context()
_IDS = RandomIdGenerator()
_SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, _NO_CONTEXT)))
"""Under which a context holds its span. A context of one span is made of it at a fifth of what `set_value` takes."""
_is_unsampled = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]").fullmatch
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The process's tracer and instruments; `close` flushes what is still held."""

    tracer: trace.Tracer
    sample_ratio: float
    served: Durations
    made: Durations
    registry: CollectorRegistry
    traces: TracerProvider
    metrics: MeterProvider
    logs: LoggerProvider

    @property
    def meter(self) -> Meter:
        """Where instruments of this package come from."""
        return self.metrics.get_meter("pyairtable_mesh")

    def close(self) -> None:
        """Export what is left, each signal for at most five seconds; blocking."""
        self.traces.force_flush(5000)
        self.traces.shutdown()
        self.metrics.shutdown(5000)
        self.logs.shutdown()


def start(service: str, *, namespace: str, instance: str, sample_ratio: float, lean: bool = True) -> Telemetry:
    """Build the providers; nothing global is set, so that a process can hold several (tests do).

    With `lean` instrumentation `start_span` decides which traces that begin here are sampled, before it asks the SDK
    for a span; otherwise the SDK's sampler does.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.namespace": namespace,
            "service.instance.id": instance,
            "service.version": version("pyairtable-mesh"),
        }
    )
    roots = ALWAYS_ON if lean else TraceIdRatioBased(sample_ratio)
    traces = TracerProvider(sampler=ParentBased(roots), resource=resource)
    logs = LoggerProvider(resource=resource)
    served = Durations(SERVER_DURATION, "Duration of RPCs that were served.")
    made = Durations(CLIENT_DURATION, "Duration of RPCs that were made.")
    registry = CollectorRegistry()
    readers: list[MetricReader] = [PrometheusReader((served, made), registry=registry)]
    if exports():
        readers.append(_exporting_over_otlp(traces, (served, made)))
        _export_logs_over_otlp(logs)
    metrics = MeterProvider(metric_readers=readers, resource=resource)
    _observe_process(metrics)
    return Telemetry(traces.get_tracer("pyairtable_mesh"), sample_ratio, served, made, registry, traces, metrics, logs)


def exports() -> bool:
    """Whether spans, metrics and logs go anywhere: else nothing needs to be recorded for them."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def _observe_process(metrics: MeterProvider) -> None:
    begun = time.monotonic()

    def uptime(_options: CallbackOptions) -> list[Observation]:
        return [Observation(time.monotonic() - begun)]

    meter = metrics.get_meter("pyairtable_mesh")
    meter.create_observable_gauge("process.uptime", [uptime], unit="s", description="Time since the process began.")


def observe_dependencies(telemetry: Telemetry, look: Callable[[], Mapping[str, bool]]) -> None:
    """Tell with each collection which dependencies, by their names, answered when they were last looked at."""

    def up(_options: CallbackOptions) -> list[Observation]:
        return [Observation(int(healthy), {"dependency.name": name}) for name, healthy in look().items()]

    telemetry.meter.create_observable_gauge(DEPENDENCY_UP, [up], description="1 while a dependency answers, else 0.")


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
    return [make(tracer_provider=telemetry.traces), _Generators()]


class _Generators(grpc.aio.ServerInterceptor):
    """Stands behind the official interceptor, which takes response streams as generators: ours write to the context."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The handler as the official interceptor needs it."""
        handler = await continuation(handler_call_details)
        stream = handler and (handler.stream_stream or handler.unary_stream)
        if not stream or inspect.isasyncgenfunction(stream):
            return handler

        async def generated(request: Any, context: Any) -> AsyncIterator[Any]:
            await stream(request, context)
            written: tuple[Any, ...] = ()
            for answer in written:
                yield answer

        make: Any = grpc.stream_stream_rpc_method_handler
        if not handler.request_streaming:
            make = grpc.unary_stream_rpc_method_handler
        return make(generated, handler.request_deserializer, handler.response_serializer)


def _exporting_over_otlp(traces: TracerProvider, durations: Sequence[Durations]) -> MetricReader:
    # Imported here: 300 ms and 20 MB that a process without an endpoint does not pay.
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return ExportingReader(OTLPMetricExporter(), durations)


def _export_logs_over_otlp(logs: LoggerProvider) -> None:
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter  # noqa: PLC0415
    from opentelemetry.instrumentation.logging.handler import LoggingHandler  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    handler = LoggingHandler(logger_provider=logs)
    # What the exporters say of their own failures would be one more thing to export.
    handler.addFilter(lambda record: not record.name.startswith("opentelemetry"))
    logging.getLogger().addHandler(handler)


def parent_of(traceparent: str) -> trace.SpanContext | None:
    """The remote parent that a W3C ``traceparent`` names; None when it is absent or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    flags = trace.TraceFlags(int(match[3], 16))
    remote = trace.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return remote if remote.is_valid else None


class UnsampledSpan(trace.NonRecordingSpan):
    """The caller's span, which nobody records, from its header; that is parsed if somebody asks for it."""

    def __init__(self, traceparent: str) -> None:
        self._traceparent = traceparent

    def get_span_context(self) -> trace.SpanContext:
        """The ids for calls that are made below it."""
        return parent_of(self._traceparent) or trace.INVALID_SPAN_CONTEXT


def start_server_span(telemetry: Telemetry, name: str, traceparent: str) -> tuple[trace.Span, Context, str]:
    """The span of a served RPC, the context in which it is current, and its trace id in hex."""
    if not _is_unsampled(traceparent):
        parent = parent_of(traceparent) if traceparent else None
        if parent is not None or _is_root_sampled(telemetry):
            span, inside = _start_recording(telemetry, name, trace.SpanKind.SERVER, parent)
            return span, inside, f"{span.get_span_context().trace_id:032x}"
        ids = f"{random.getrandbits(192):048x}"
        traceparent = f"00-{ids[:32]}-{ids[32:]}-00"
    unsampled = UnsampledSpan(traceparent)
    return unsampled, Context({_SPAN_KEY: unsampled}), traceparent[3:35]


def start_span(
    telemetry: Telemetry, name: str, kind: trace.SpanKind, parent: trace.SpanContext | None
) -> tuple[trace.Span, Context]:
    """A span and the context in which it is current. What is not sampled is the parent itself, at no cost; without a
    parent the share `sample_ratio` is sampled, and the rest gets the ids of a trace that nobody records.
    """
    if parent is None and not _is_root_sampled(telemetry):
        parent = trace.SpanContext(_IDS.generate_trace_id(), _IDS.generate_span_id(), is_remote=False)
    if parent is not None and not parent.trace_flags.sampled:
        unsampled = trace.NonRecordingSpan(parent)
        return unsampled, trace.set_span_in_context(unsampled, _NO_CONTEXT)
    return _start_recording(telemetry, name, kind, parent)


def _is_root_sampled(telemetry: Telemetry) -> bool:
    return random.random() < telemetry.sample_ratio  # noqa: S311 - a share, no secret


def _start_recording(
    telemetry: Telemetry, name: str, kind: trace.SpanKind, parent: trace.SpanContext | None
) -> tuple[trace.Span, Context]:
    outer = trace.set_span_in_context(trace.NonRecordingSpan(parent), _NO_CONTEXT) if parent else _NO_CONTEXT
    span = telemetry.tracer.start_span(name, outer, kind, {"rpc.system.name": "grpc", "rpc.method": name})
    return span, trace.set_span_in_context(span, outer)


def traceparent_of(span: trace.Span) -> str:
    """The header that makes `span` the parent of a call; empty when there is no valid span."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
