"""Backends, clients and a control plane as real processes on loopback, for the tests of this folder's parent."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from pyairtable.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from pyairtable_operator import model
from pyairtable_operator.providers.file import write_inventory

HERE = pathlib.Path(__file__).parent
NAMESPACE = "shop"


async def until(what: str, condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait for a condition, looking every 20 ms; fail with the words after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - the state is another process's
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {seconds:g} s in vain: {what}") from None


async def start(*command: str, **environment: str) -> asyncio.subprocess.Process:
    """Start a Python process with pipes for its input and output; its log goes where the test's goes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_VERBOSITY": "NONE", **environment},
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a process, if it still runs, and take its leave."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()


class Backend:
    """An echo server that answers with its name."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, port: int) -> None:
        self.name = name
        self.process = process
        self.endpoint = model.Endpoint("127.0.0.1", port)


class Client:
    """An echo client; `ask` gives it a command and returns its answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(60):
            answer: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return answer

    async def call(self, target: str, deadline: float = 10.0) -> dict[str, Any]:
        return await self.ask(do="call", target=target, deadline=deadline)

    async def load(self, target: str, *, workers: int = 8, deadline: float = 10.0) -> None:
        await self.ask(do="load", target=target, workers=workers, deadline=deadline)

    async def report(self) -> dict[str, Any]:
        return await self.ask(do="report")

    async def after(self, calls: int, seconds: float = 20.0) -> dict[str, Any]:
        """Wait for this many more answers, and return all that happened meanwhile."""
        answers: collections.Counter[str] = collections.Counter()
        total: dict[str, Any] = {"answers": answers, "failures": [], "first": {}}

        async def enough() -> bool:
            found = await self.report()
            answers.update(found["answers"])
            total["failures"] += found["failures"]
            total["first"] = found["first"] | total["first"]
            return answers.total() >= calls

        await until(f"{calls} answers", enough, seconds)
        return total

    async def until_answered_by(self, *names: str, seconds: float = 10.0) -> list[str]:
        """Wait until exactly these backends answer, each of them, and return the failures until then."""
        failures = []

        async def settled() -> bool:
            found = await self.after(calls=40, seconds=seconds)
            failures.extend(found["failures"])
            return set(found["answers"]) == set(names)

        await until(f"answers of {names} only", settled, seconds)
        return failures

    async def first_answer_of(self, name: str) -> float:
        """Wait until a backend answers, and return when it did first, in seconds of the monotonic clock."""
        found: dict[str, float] = {}

        async def answered() -> bool:
            found.update((await self.report())["first"])
            return name in found

        await until(f"an answer of {name}", answered)
        return found[name]


class Mesh:
    """The control plane of one test: its file, its port, and the processes that take part."""

    def __init__(self, folder: pathlib.Path, processes: contextlib.AsyncExitStack) -> None:
        self.file = folder / "mesh.yaml"
        self.port = free_port()
        self.control_plane: asyncio.subprocess.Process | None = None
        self._processes = processes

    def write(self, *services: model.Service) -> None:
        write_inventory(self.file, services)

    def echo(self, *backends: Backend, **fields: Any) -> model.Service:
        endpoints = tuple(backend.endpoint for backend in backends)
        return model.Service("echo", NAMESPACE, 50051, endpoints, **fields)

    async def run_control_plane(self, *, serves: bool = True) -> None:
        """Start it and wait until it serves a snapshot; or, where its file is broken, until it answers."""
        process = await start(
            "-m",
            "pyairtable_operator",
            PYAIRTABLE_OPERATOR_MESH_FILE=str(self.file),
            PYAIRTABLE_OPERATOR_PORT=str(self.port),
            PYAIRTABLE_OPERATOR_LOG_LEVEL="WARNING",
        )
        self._processes.push_async_callback(end, process)
        self.control_plane = process

        async def is_up() -> bool:
            return bool((await self.services()).snapshot_version) or not serves

        await until("the control plane answers", is_up)

    async def kill_control_plane(self) -> None:
        assert self.control_plane is not None
        await end(self.control_plane)

    async def backend(self, name: str, delay: float = 0.0) -> Backend:
        process = await start(str(HERE / "echo_backend.py"), name, str(delay))
        self._processes.push_async_callback(end, process)
        assert process.stdout is not None
        return Backend(name, process, int(await process.stdout.readline()))

    async def client(self, name: str = "web", namespace: str = NAMESPACE) -> Client:
        bootstrap = {
            "xds_servers": [
                {
                    "server_uri": f"127.0.0.1:{self.port}",
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3"],
                }
            ],
            "node": {"id": f"{namespace}/{name}/{name}-1"},
        }
        process = await start(str(HERE / "echo_client.py"), GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(bootstrap))
        self._processes.push_async_callback(end, process)
        return Client(process)

    @contextlib.asynccontextmanager
    async def status(self) -> AsyncIterator[Any]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            yield mesh_pb2_grpc.StatusServiceStub(channel)

    async def services(self) -> mesh_pb2.ListServicesResponse:
        async with self.status() as stub:
            request = mesh_pb2.ListServicesRequest()
            answer: mesh_pb2.ListServicesResponse = await stub.ListServices(request, timeout=10, wait_for_ready=True)
            return answer

    async def clients(self) -> list[mesh_pb2.Client]:
        async with self.status() as stub:
            answer = await stub.ListClients(mesh_pb2.ListClientsRequest(), timeout=10, wait_for_ready=True)
            return list(answer.clients)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
