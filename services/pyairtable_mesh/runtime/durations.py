"""Histograms of how long calls took, cheap enough to be taken for each of them.

`Histogram.record` of the OpenTelemetry SDK takes about as long as the rest of the interceptors together. Here a
measurement is a look-up and four additions, and the points join the SDK's metrics when a reader collects them.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    PeriodicExportingMetricReader,
)

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MAX_POINTS = 4096
"""Methods times codes; a process knows its methods, so this is not reached but by mistake."""
FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that are the server's fault; the others are the caller's business (semantic conventions for RPC)."""


@dataclass(slots=True)
class _Point:
    sum: float = 0.0
    least: float = float("inf")
    most: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))


class Durations:
    """A histogram in seconds with the attributes of RPC metrics, cumulative since the process began."""

    def __init__(self, name: str, description: str) -> None:
        self._name = name
        self._description = description
        self._begun = time.time_ns()
        self._points: dict[tuple[str, grpc.StatusCode], _Point] = {}

    def record(self, seconds: float, method: str, code: grpc.StatusCode) -> None:
        """Count a call of ``package.Service/Method``."""
        point = self._points.get((method, code))
        if point is None:
            if len(self._points) >= MAX_POINTS:
                return
            point = self._points[method, code] = _Point()
        point.sum += seconds
        point.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        point.least = min(point.least, seconds)
        point.most = max(point.most, seconds)

    def metric(self) -> Metric:
        """The state in the SDK's own form."""
        now = time.time_ns()
        points = [
            HistogramDataPoint(
                attributes=_attributes(method, code),
                start_time_unix_nano=self._begun,
                time_unix_nano=now,
                count=sum(point.counts),
                sum=point.sum,
                bucket_counts=tuple(point.counts),
                explicit_bounds=BOUNDS_SECONDS,
                min=point.least,
                max=point.most,
            )
            for (method, code), point in list(self._points.items())
        ]
        data = Histogram(data_points=points, aggregation_temporality=AggregationTemporality.CUMULATIVE)
        return Metric(self._name, self._description, "s", data)


def _attributes(method: str, code: grpc.StatusCode) -> Mapping[str, str]:
    common = {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": code.name}
    return {**common, "error.type": code.name} if code in FAULTS else common


class PrometheusReader(PrometheusMetricReader):
    """Serves the SDK's metrics and the durations to Prometheus."""

    def __init__(self, durations: Sequence[Durations], **options: Any) -> None:
        super().__init__(**options)
        self._durations = durations

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> None:
        super()._receive_metrics(_joined(metrics_data, self._durations), timeout_millis, **options)


class ExportingReader(PeriodicExportingMetricReader):
    """Exports the SDK's metrics and the durations from time to time."""

    def __init__(self, exporter: Any, durations: Sequence[Durations]) -> None:
        self._durations = durations
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any) -> None:
        super()._receive_metrics(_joined(metrics_data, self._durations), timeout_millis, **options)


def _joined(data: MetricsData, durations: Sequence[Durations]) -> MetricsData:
    """The SDK's metrics with the durations in the first scope. There always is one: the process's own gauges."""
    resource, *resources = data.resource_metrics
    scope, *scopes = resource.scope_metrics
    scope = replace(scope, metrics=[*scope.metrics, *(each.metric() for each in durations)])
    return replace(data, resource_metrics=[replace(resource, scope_metrics=[scope, *scopes]), *resources])
