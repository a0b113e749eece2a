"""Puts the control plane together and runs it: provider -> inventory -> snapshots -> ADS."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from collections.abc import AsyncIterator

import grpc
import prometheus_client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from pyairtable.mesh.v1 import mesh_pb2_grpc
from pyairtable_mesh.runtime import garbage, reflection
from pyairtable_mesh.runtime.health import LIVENESS
from pyairtable_operator.inventory import Inventory, Provider
from pyairtable_operator.providers.file import FileProvider
from pyairtable_operator.settings import Settings
from pyairtable_operator.status import access, boundary, metrics, servicer
from pyairtable_operator.status.acknowledgements import tallies
from pyairtable_operator.xds import ads, session, snapshot

_READY_NAMES = ("", ads.SERVICE_NAME, servicer.SERVICE_NAME)

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The process can't start; the message says why and what to do."""


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises StartError."""
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    async with chosen_provider(settings) as provider:
        await serve(settings, provider, stopping)


async def serve(settings: Settings, provider: Provider, stopping: asyncio.Event) -> None:
    """Serve what the provider finds until `stopping` is set.

    No client gets an answer before the mesh was read: a control plane that comes back empty-handed must not tell
    clients that their services are gone.
    """
    inventory, hub = Inventory(), ads.Hub()
    inventory.receptions = lambda: tallies(hub.responses, hub.clients.values()) if hub.responses is not None else {}
    health = health_aio.HealthServicer()
    listener = _server(settings)
    health_pb2_grpc.add_HealthServicer_to_server(health, listener)
    limits = session.Limits(names=settings.max_names)
    reviews = None if _on_loopback(settings.host) else provider.reviews
    workloads = None if reviews is None else inventory.workloads
    discovery = ads.AggregatedDiscovery(hub, limits=limits, max_streams=settings.max_streams, workloads=workloads)
    listener.add_generic_rpc_handlers((discovery.handler(),))
    allowed = access.Access(reviews)
    mesh_pb2_grpc.add_StatusServiceServicer_to_server(servicer.StatusServicer(hub, inventory, allowed), listener)
    if settings.reflection:
        reflection.enable(listener, [ads.SERVICE_NAME, servicer.SERVICE_NAME, "grpc.health.v1.Health"])
    port = _bind(listener, settings)
    _serve_metrics(settings, hub)
    await health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
    await _ready(health, False)
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(provider.run(inventory)),
            tasks.create_task(_publish(inventory, hub, health)),
        ]
        await listener.start()
        garbage.settle()
        _log.info("the control plane listens", extra={"address": f"{settings.host}:{port}"})
        await stopping.wait()
        await health.enter_graceful_shutdown()
        hub.close()
        await listener.stop(settings.drain_seconds)
        for task in work:
            task.cancel()


@contextlib.asynccontextmanager
async def chosen_provider(settings: Settings) -> AsyncIterator[Provider]:
    """Give the provider that the settings name, connected where it needs to be. Raises StartError."""
    if settings.provider == "file":
        yield FileProvider(settings.mesh_file)
        return
    try:
        from pyairtable_operator.providers.kubernetes import client, provider  # noqa: PLC0415 - a second, and 50 MB
    except ImportError as error:
        raise StartError(f"{error.name} is missing: install pyairtable-operator[kubernetes]") from error
    membership = provider.Membership(
        selector=settings.namespace_selector,
        home=settings.home_namespace,
        trust_domain=settings.trust_domain,
        domain=settings.cluster_domain,
        lease_namespace=settings.lease_namespace,
        lease_name=settings.lease_name,
        identity=settings.identity or socket.gethostname(),
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            api = await stack.enter_async_context(client.connect())
        except client.ApiError as error:
            raise StartError(f"{error}: run it in a pod, or set KUBECONFIG") from error
        yield provider.KubernetesProvider(api, membership)


async def _publish(inventory: Inventory, hub: ads.Hub, health: health_aio.HealthServicer) -> None:
    current: snapshot.Snapshot | None = None
    while True:
        known, version = (current.problems, current.version) if current is not None else ((), "")
        current = snapshot.build(await inventory.next(), current)
        hub.publish(current)
        for problem in current.problems:
            if problem not in known:
                _log.warning("left out of the mesh: %s", problem)
        if current.version != version:
            _log.info("snapshot", extra={"version": current.version, "services": len(current.entries)})
        await _ready(health, True)


async def _ready(health: health_aio.HealthServicer, ready: bool) -> None:
    """Tell whether the mesh was read. It stays ready while the API server is away: clients have the last mesh."""
    state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in _READY_NAMES:
        await health.set(name, state)


def _on_loopback(host: str) -> bool:
    """Whether only this machine can connect, or this pod: whoever is there may see everything, and is believed."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _server(settings: Settings) -> grpc.aio.Server:
    milliseconds = int(settings.keepalive_seconds * 1_000)
    return grpc.aio.server(
        interceptors=[boundary.Boundary(servicer.SERVICE_NAME)],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", milliseconds),
            ("grpc.keepalive_timeout_ms", milliseconds // 3),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # Requests are small: a ping after each, to find out how many more could be in flight, is for nothing.
            ("grpc.http2.bdp_probe", 0),
        ],
    )


def _serve_metrics(settings: Settings, hub: ads.Hub) -> None:
    if not settings.metrics_port:
        return
    try:
        prometheus_client.start_http_server(settings.metrics_port, settings.host, metrics.registry(hub))
    except OSError:
        raise StartError(
            f"port {settings.metrics_port} on {settings.host} can't be bound: stop what uses it, or set "
            "PYAIRTABLE_OPERATOR_METRICS_PORT to a free port"
        ) from None


def _bind(listener: grpc.aio.Server, settings: Settings) -> int:
    try:
        return listener.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        raise StartError(
            f"port {settings.port} on {settings.host} can't be bound: if another control plane runs there, stop it "
            f"(ss -ltnp 'sport = :{settings.port}' names its process), or set PYAIRTABLE_OPERATOR_PORT to a free port"
        ) from None
