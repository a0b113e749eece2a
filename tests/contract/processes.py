"""Services as real processes, with an issuer for their callers' tokens."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_laptop import issuer
from pyairtable_laptop.folder import DataFolder

SECONDS = 30.0


@dataclass
class Running:
    """A process of a service, the lines of its log, and the ports that it told there."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def channel(self, port: str = "grpc_port") -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.ports[port]}", [("grpc.enable_http_proxy", 0)])

    async def health(self, name: str = "") -> int:
        """The state that a probe sees."""
        async with self.channel("health_port") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        return int(answer.status)

    async def turns(self, state: int, name: str = "") -> None:
        """Wait for a state of health."""
        async with asyncio.timeout(SECONDS), self.channel("health_port") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=name)):
                if answer.status == state:
                    return

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for the end; the exit status."""
        return await asyncio.wait_for(self.process.wait(), SECONDS)

    async def read(self) -> None:
        """Take in the log, and from one of its lines the ports."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            if '"grpc_port"' in self.lines[-1]:
                self.ports = {name: port for name, port in json.loads(line).items() if name.endswith("_port")}


class Site:
    """Where processes run: a folder with keys and databases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = DataFolder(folder)
        self._users, self._workloads = issuer.users(self._data), issuer.workloads(self._data)

    def environment(self, service: str, **settings: object) -> dict[str, str]:
        """What a service is started with; `settings` are PYAIRTABLE_ variables, or OTEL_ ones by their whole name."""
        chosen: dict[str, object] = {
            "host": "127.0.0.1",
            "grpc_port": 0,
            "health_port": 0,
            "metrics_port": 0,
            "database_url": f"sqlite:///{self.folder}/{service}.db",
            "namespace": issuer.NAMESPACE,
            "jwks": issuer.jwks_file(self._data, "users"),
            "token_issuer": issuer.ISSUER,
            "workload_jwks": issuer.jwks_file(self._data, "workloads"),
            "workload_issuer": issuer.WORKLOAD_ISSUER,
            "removal_seconds": 0,
            **settings,
        }
        named = {name if name.isupper() else f"PYAIRTABLE_{name.upper()}": str(v) for name, v in chosen.items()}
        return {**os.environ, **named}

    def as_user(self, user: str, tenant: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {issuer.user_token(self._users, user, tenant)}"),)

    def as_workload(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {issuer.workload_token(self._workloads, name)}"),)

    @asynccontextmanager
    async def running(self, service: str, **settings: object) -> AsyncIterator[Running]:
        """A process of a service that listens; it is killed when the block ends, if it still runs."""
        async with self.started(service, **settings) as process:
            running = Running(process)
            reading = asyncio.create_task(running.read())
            try:
                async with asyncio.timeout(SECONDS):
                    while not running.ports and not reading.done():  # noqa: ASYNC110 - told by another process
                        await asyncio.sleep(0.01)
                assert running.ports, "".join(running.lines)
                await running.turns(health_pb2.HealthCheckResponse.SERVING)
                yield running
            finally:
                if process.returncode is None:
                    process.kill()
                await reading

    async def refused(self, service: str, **settings: object) -> tuple[int, str]:
        """The exit status and the words of a process that does not start."""
        async with self.started(service, **settings) as process:
            _, words = await asyncio.wait_for(process.communicate(), SECONDS)
        assert process.returncode is not None
        return process.returncode, words.decode()

    @asynccontextmanager
    async def started(self, service: str, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process of a service, as soon as it was started; it is killed when the block ends, if it still runs."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pyairtable_mesh", service),
            env=self.environment(service, **settings),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def grant_owner(self, permission: Running, user: str, tenant: str) -> Any:
        """Make a user the first owner of a tenant."""
        request = permission_pb2.GrantRoleRequest(
            role="roles/owner", resource=f"tenant:{tenant}", subject=f"user:{user}"
        )
        async with permission.channel() as channel:
            stub = permission_pb2_grpc.PermissionServiceStub(channel)
            return await stub.GrantRole(request, metadata=self.as_workload("tenant"), timeout=20)
