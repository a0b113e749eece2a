"""The listeners of a process: RPCs, health for probes, metrics for Prometheus."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import prometheus_client
from grpc_health.v1 import health_pb2_grpc

from pyairtable_mesh.runtime import garbage
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.health import Health
from pyairtable_mesh.runtime.service import Background
from pyairtable_mesh.runtime.settings import Settings

logger = logging.getLogger(__name__)

OPTIONS = (
    # On by default in gRPC: a second process would bind the same port in silence and take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_metadata_size", 16 << 10),
)


def new_server(max_message_bytes: int, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> grpc.aio.Server:
    """A server with the mesh's options; nothing is bound yet."""
    options = [*OPTIONS, ("grpc.max_receive_message_length", max_message_bytes)]
    return grpc.aio.server(options=options, interceptors=list(interceptors))


def bind(server: grpc.aio.Server, host: str, port: int, setting: str) -> int:
    """Bind a port and return it (0 takes a free one); `Unavailable` in words when it is taken."""
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise Unavailable(
            f"port {port} on {host} cannot be bound; stop what uses it (ss -ltnp 'sport = :{port}'), or set {setting}"
        ) from None


@dataclass(slots=True)
class Running:
    """A built service: its listeners, health and work beside the RPCs."""

    name: str
    settings: Settings
    server: grpc.aio.Server
    probes: grpc.aio.Server
    health: Health
    background: list[Background]
    registry: prometheus_client.CollectorRegistry
    leaving: asyncio.Event
    port: int = 0

    async def start(self) -> None:
        """Bind and listen; SERVING is told as soon as every dependency answers."""
        settings = self.settings
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, self.probes)
        health_port = bind(self.probes, settings.host, settings.health_port, "PYAIRTABLE_HEALTH_PORT")
        self.port = bind(self.server, settings.host, settings.grpc_port, "PYAIRTABLE_GRPC_PORT")
        metrics_port = serve_metrics(settings.host, settings.metrics_port, self.registry)
        await self.health.start()
        await self.probes.start()
        await self.server.start()
        garbage.settle()
        ports = {"grpc_port": self.port, "health_port": health_port, "metrics_port": metrics_port}
        logger.info("%s listens on %s:%d", self.name, settings.host, self.port, extra=ports)

    async def stop(self, drain: float) -> None:
        """End endless streams, let other calls in flight finish for at most `drain` seconds, then the probes."""
        self.leaving.set()
        self.health.end()
        await self.server.stop(drain)
        await self.probes.stop(0)


def serve_metrics(host: str, port: int, registry: prometheus_client.CollectorRegistry) -> int:
    """Serve ``/metrics`` from a thread of its own; the port that was bound. `Unavailable` in words when it is taken."""
    try:
        server, _ = prometheus_client.start_http_server(port, host, registry)
    except OSError:
        raise Unavailable(
            f"port {port} on {host} cannot be bound; stop what uses it, or set PYAIRTABLE_METRICS_PORT"
        ) from None
    return int(server.server_port)
