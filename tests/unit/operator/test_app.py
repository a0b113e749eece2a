"""The process's edges: settings, health, a port in use, the way out."""

import asyncio
import pathlib
import socket
from dataclasses import asdict
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_mesh.runtime.settings import SettingsError, load
from pyairtable_operator import app, model, settings
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.xds import ads


class Still:
    """A provider of one mesh, when it is told to."""

    reviews = None

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def run(self, inventory: Inventory) -> None:
        await self.go.wait()
        inventory.replace(model.Mesh())
        await asyncio.Event().wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_defaults() -> None:
    assert asdict(settings.Settings()) == {
        "provider": "file",
        "mesh_file": pathlib.Path("mesh.yaml"),
        "namespace_selector": "mesh.pyairtable.io/enabled=true",
        "home_namespace": "",
        "trust_domain": "pyairtable.local",
        "cluster_domain": "cluster.local",
        "lease_namespace": "default",
        "lease_name": "pyairtable-operator",
        "identity": "",
        "host": "127.0.0.1",
        "port": 18_000,
        "metrics_port": 0,
        "max_streams": 20_000,
        "max_names": 1_000,
        "max_message_bytes": 262_144,
        "keepalive_seconds": 30.0,
        "drain_seconds": 2.0,
        "reflection": True,
        "log_format": "json",
        "log_level": "INFO",
    }


def test_wrong_values_are_named_and_not_shown() -> None:
    environment = {"PYAIRTABLE_OPERATOR_PORT": "eighteen", "PYAIRTABLE_OPERATOR_LOG_FORMAT": "xml"}
    with pytest.raises(SettingsError) as caught:
        load(settings.Settings, environment, settings.Settings.prefix)
    assert caught.value.problems == [
        "PYAIRTABLE_OPERATOR_PORT: Expected `int`",
        "PYAIRTABLE_OPERATOR_LOG_FORMAT: Expected one of json, console",
    ]


async def test_a_port_in_use_is_told_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(app.StartError, match=f"port {port} on 127.0.0.1 can't be bound.*PYAIRTABLE_OPERATOR_PORT"):
            await app.serve(settings.Settings(port=port), Still(), asyncio.Event())


async def test_it_serves_when_the_mesh_was_read_and_leaves_when_told() -> None:
    port, provider, stopping = free_port(), Still(), asyncio.Event()
    running = asyncio.create_task(app.serve(settings.Settings(port=port, drain_seconds=0), provider, stopping))
    async with asyncio.timeout(5), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        provider.go.set()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping.set()
        await running


@pytest.mark.parametrize("name", ["", "pyairtable.mesh.v1.StatusService", ads.SERVICE_NAME])
async def test_it_is_ready_with_the_mesh_and_alive_without(name: str) -> None:
    port, provider, stopping = free_port(), Still(), asyncio.Event()
    running = asyncio.create_task(app.serve(settings.Settings(port=port, drain_seconds=0), provider, stopping))
    async with asyncio.timeout(5), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        alive = await stub.Check(health_pb2.HealthCheckRequest(service="liveness"))
        assert alive.status == health_pb2.HealthCheckResponse.SERVING
        provider.go.set()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        stopping.set()
        await running


class Strict(Still):
    """A provider whose cluster knows nobody."""

    class Nobody:
        audience = "mesh.test"

        async def caller(self, token: str) -> None:
            return None

        async def allows(self, caller: object, verb: str, namespace: str) -> bool:
            raise AssertionError("nobody was named")

    reviews = Nobody()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", grpc.StatusCode.OK),
        ("localhost", grpc.StatusCode.OK),
        ("0.0.0.0", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_callers_are_asked_who_they_are_where_others_can_connect(host: str, code: grpc.StatusCode) -> None:
    port, provider, stopping = free_port(), Strict(), asyncio.Event()
    provider.go.set()
    chosen = settings.Settings(host=host, port=port, drain_seconds=0)
    running = asyncio.create_task(app.serve(chosen, provider, stopping))
    async with asyncio.timeout(5), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = mesh_pb2_grpc.StatusServiceStub(channel)
        call = stub.ListServices(mesh_pb2.ListServicesRequest(), wait_for_ready=True)
        assert await call.code() is code
        stopping.set()
        await running
