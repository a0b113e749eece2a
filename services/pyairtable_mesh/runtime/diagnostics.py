"""`DiagnosticsService`: what a process is, how it is set, and how its dependencies are."""

import dataclasses
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from google.protobuf import timestamp_pb2

from pyairtable.common.v1 import common_pb2, common_pb2_grpc
from pyairtable_mesh.runtime.health import Dependency, Health
from pyairtable_mesh.runtime.settings import Secret, Settings


class DiagnosticsServicer(common_pb2_grpc.DiagnosticsServiceServicer):
    """In every service, beside `grpc.health.v1`, which says the same in one word."""

    def __init__(
        self,
        service: str,
        settings: Settings,
        health: Health,
        grpc_services: list[str],
        others: Sequence[Callable[[], Dependency]] = (),
    ) -> None:
        """`others` tell of what the service is ready without."""
        self._service = service
        self._settings = settings
        self._health = health
        self._grpc_services = grpc_services
        self._others = others
        self._started = datetime.now(UTC)

    async def GetHealthReport(
        self, request: common_pb2.GetHealthReportRequest, context: Any
    ) -> common_pb2.HealthReport:
        """The dependencies as they are now, looked at for this report."""
        ready = await self._health.look()
        state = common_pb2.HEALTH_STATE_HEALTHY if ready else common_pb2.HEALTH_STATE_UNHEALTHY
        report = common_pb2.HealthReport(service=self._service, state=state)
        looked_at = [*self._health.dependencies.values(), *(look() for look in self._others)]
        report.dependencies.extend(_dependency(found) for found in looked_at)
        report.report_time.GetCurrentTime()
        return report

    async def GetServiceInfo(self, request: common_pb2.GetServiceInfoRequest, context: Any) -> common_pb2.ServiceInfo:
        """Version and settings; a setting that may hold a secret is named and withheld."""
        info = common_pb2.ServiceInfo(
            service=self._service,
            version=version("pyairtable-mesh"),
            build=common_pb2.BuildInfo(runtime_version=f"Python {platform.python_version()}"),
            start_time=_timestamp(self._started),
            environment=self._settings.environment,
            grpc_services=self._grpc_services,
        )
        for field in dataclasses.fields(self._settings):
            value = getattr(self._settings, field.name)
            secret = isinstance(value, Secret)
            info.configuration.add(
                name=self._settings.prefix + field.name.upper(),
                value="" if secret else str(value),
                secret=secret,
                default=value == field.default,
            )
        return info


def _dependency(found: Dependency) -> common_pb2.DependencyHealth:
    ill = common_pb2.HEALTH_STATE_UNHEALTHY if found.required else common_pb2.HEALTH_STATE_DEGRADED
    row = common_pb2.DependencyHealth(
        name=found.name,
        state=common_pb2.HEALTH_STATE_HEALTHY if found.healthy else ill,
        message=found.detail,
        check_time=_timestamp(datetime.fromtimestamp(found.checked, UTC)),
        required=found.required,
    )
    row.latency.FromNanoseconds(int(found.latency * 1e9))
    return row


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp
