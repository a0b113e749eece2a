"""A control plane in a process of its own, the file that it follows, and health as the benchmarks wait for it."""

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.measure import START_SECONDS, BenchmarkError, Process, process
from pyairtable_laptop import ports
from pyairtable_mesh.runtime import xds
from pyairtable_operator import model
from pyairtable_operator.providers.file import write_inventory

NAMESPACE = "bench"
LOOK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Mesh:
    """A control plane that serves one service, `echo`."""

    control_plane: Process
    address: str
    file: Path

    def write(self, endpoints: Sequence[int]) -> None:
        """Let the service have these ports; the file is replaced when this returns."""
        write_inventory(self.file, [_echo(endpoints)])

    def bootstrap(self, client: str) -> dict[str, str]:
        """The environment of a process that calls ``xds:///echo``."""
        environment: dict[str, str] = {}
        xds.configure(environment, control_plane=self.address, service=client, namespace=NAMESPACE, instance="1")
        return environment


@contextmanager
def mesh(endpoints: Sequence[int]) -> Iterator[Mesh]:
    """Run a control plane on a file that begins with these ports of `echo`."""
    port = next(ports.free())
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "mesh.yaml"
        write_inventory(file, [_echo(endpoints)])
        environment = {
            "PYAIRTABLE_OPERATOR_MESH_FILE": str(file),
            "PYAIRTABLE_OPERATOR_PORT": str(port),
            "PYAIRTABLE_OPERATOR_LOG_LEVEL": "WARNING",
        }
        with process("-m", "pyairtable_operator", environment=environment) as control_plane:
            wait_until_serving(control_plane, port)
            yield Mesh(control_plane, f"127.0.0.1:{port}", file)


def wait_until_serving(started: Process, port: int, seconds: float = START_SECONDS) -> float:
    """Wait until a process says SERVING on its health port; the seconds since it was started."""
    latest = started.started + seconds
    while not _listens(port):
        started.require_alive()
        if time.monotonic() > latest:
            raise BenchmarkError(f"nobody listened on port {port} within {seconds:g} s")
        time.sleep(LOOK_SECONDS)
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answers = stub.Watch(health_pb2.HealthCheckRequest(), timeout=seconds)
        try:
            next(answer for answer in answers if answer.status == health_pb2.HealthCheckResponse.SERVING)
        except (grpc.RpcError, StopIteration):
            raise BenchmarkError(f"the process on port {port} was not SERVING within {seconds:g} s") from None
    return time.monotonic() - started.started


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _echo(endpoints: Sequence[int]) -> model.Service:
    return model.Service("echo", NAMESPACE, 50051, tuple(model.Endpoint("127.0.0.1", port) for port in endpoints))
