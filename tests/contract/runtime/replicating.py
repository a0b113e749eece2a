"""A service's authorizer with a replica, and the permission service behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pyairtable_mesh.runtime import auditing, moments
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.replica.authorizer import ReplicaAuthorizer
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from tests.contract.runtime.permission_server import (
    ALICE,
    TENANT,
    TENANT_ID,
    PermissionServer,
    bound,
    stub_of,
    until,
)

READ = (TENANT, "read")
BASE = "base:app" + "0" * 26
ROOM = Bounds(tenants=2, facts=100_000, idle_seconds=60.0)
OTHER_TENANT_ID = "ten" + "1" * 26


@dataclass
class Clock:
    """Seconds that a test may turn forward."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


class Log:
    """Takes every allowed decision."""

    def __init__(self) -> None:
        self.taken: list[auditing.Decision] = []

    def wants(self, *, allowed: bool) -> bool:
        return allowed

    def take(self, _caller: RequestContext, decisions: Sequence[auditing.Decision]) -> None:
        self.taken += decisions


@dataclass
class Runtime:
    """A service's authorizer, the permission service behind it, and the clock of the one."""

    server: PermissionServer
    replicas: Replicas
    authorizer: ReplicaAuthorizer
    clock: Clock
    log: Log

    @property
    def follower(self) -> Follower:
        found = self.replicas.of(TENANT_ID)
        assert found is not None
        return found

    async def may(self, *questions: tuple[str, str], seen: str = "", tenant_id: str = TENANT_ID) -> bool:
        caller = RequestContext(
            "/t.v1.Test/Do", actor=Actor("user", ALICE), tenant_id=tenant_id, consistency_token=seen
        )
        return all(await self.authorizer.check(caller, questions or (READ,)))

    async def holds(self, revision: int) -> None:
        await until(f"revision {revision}", lambda: self.follower.copy.revision >= revision and self.follower.is_fresh)

    def since(self) -> Callable[[], dict[str, int]]:
        """What was answered from here on, by who and why."""
        before = self.authorizer.answers.copy()
        return lambda: dict(self.authorizer.answers - before)


@asynccontextmanager
async def running(
    types: frozenset[str] = frozenset({"tenant"}), budget: float = 5.0, bounds: Bounds = ROOM
) -> AsyncIterator[Runtime]:
    """Alice may read the tenant, and her replica is there."""
    server, clock, log = PermissionServer(), Clock(), Log()
    server.write(bound("1", "viewer", ALICE))
    async with stub_of(server) as stub:
        replicas = Replicas(stub, Wanted(types, budget), bounds, clock)
        sweeping = asyncio.create_task(replicas.run())
        authorizer = ReplicaAuthorizer(replicas, PeerAuthorizer(stub), log, moments.utc_now)  # type: ignore[arg-type]
        yield Runtime(server, replicas, authorizer, clock, log)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await until("the streams to end with the process", lambda: not server.open_streams)
