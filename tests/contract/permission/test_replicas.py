"""Several replicas on one PostgreSQL, as processes: fresh with a token on each, and right through ``kill -9``."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from tests.contract.processes import Running, Site
from tests.databases import PostgresServer
from tests.unit.permission.world import ALICE, BOB, TENANT_ID, WORKSPACE, ref

WORKERS = 4
KILLS = 2
BETWEEN_KILLS = 30
LIMIT_SECONDS = 90.0
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
Allowed = pb.Decision.RESULT_ALLOWED


@dataclass
class Replicas:
    """Two replicas that may be killed; each comes back as another process."""

    site: Site
    server: PostgresServer
    database: str
    running: list[Running] = field(default_factory=list)
    stubs: list[permission_pb2_grpc.PermissionServiceStub] = field(default_factory=list)
    held: list[AsyncExitStack] = field(default_factory=list)

    async def start(self, index: int) -> None:
        """Run a replica, in the place of the one before."""
        stack = AsyncExitStack()
        process = await stack.enter_async_context(
            self.site.running("permission", database_url=self.server.url(self.database))
        )
        channel = await stack.enter_async_context(process.channel())
        self.running[index:] = [process, *self.running[index + 1 :]]
        self.stubs[index:] = [permission_pb2_grpc.PermissionServiceStub(channel), *self.stubs[index + 1 :]]
        self.held[index:] = [stack, *self.held[index + 1 :]]

    async def kill(self, index: int) -> None:
        """``kill -9``, and a new process."""
        self.running[index].process.kill()
        await self.held[index].aclose()
        await self.start(index)


@asynccontextmanager
async def _replicas(folder: Path, server: PostgresServer) -> AsyncIterator[Replicas]:
    name = await server.create("pyairtable_mesh.permission.migrations")
    made = Replicas(Site(folder), server, name)
    try:
        for index in range(2):
            await made.start(index)
        await made.site.grant_owner(made.running[0], ALICE.removeprefix("user:"), TENANT_ID)
        yield made
    finally:
        for each in made.held:
            await each.aclose()
        await server.drop(name)


class Load:
    """Grants and revocations, each at once asked about at the other replica, with the write's token."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        self.owner = replicas.site.as_user(ALICE.removeprefix("user:"), TENANT_ID)
        self.kept: set[str] = set()
        self.numbers = count()
        self.begun = 0
        self.repeated = 0
        self.stopping = False

    async def work(self) -> None:
        while not self.stopping:
            number = self.begun = next(self.numbers)
            workspace, at = ref("workspace", f"k{number}"), number % 2
            granted = await self._insist(at, "GrantRole", _grant(workspace))
            await self._seen(1 - at, workspace, granted.consistency_token, allowed=True)
            if number % 3:
                self.kept.add(workspace)
                continue
            name = granted.role_binding.name
            revoked = await self._insist(at, "RevokeRole", pb.RevokeRoleRequest(name=name, request_id=_id()))
            await self._seen(1 - at, workspace, revoked.consistency_token, allowed=False)

    async def _seen(self, at: int, workspace: str, token: str, *, allowed: bool) -> None:
        consistency = pb.Consistency(at_least_as_fresh=token)
        request = pb.CheckPermissionRequest(resource=workspace, permission="read", subject=BOB, consistency=consistency)
        decision = (await self._insist(at, "CheckPermission", request)).decision
        assert (decision.result == Allowed) == allowed

    async def _insist(self, at: int, method: str, request: Any) -> Any:
        while True:
            try:
                return await getattr(self.replicas.stubs[at], method)(request, metadata=self.owner, timeout=5)
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise
            except (asyncio.CancelledError, grpc.aio.UsageError):
                if self.stopping:
                    raise
            self.repeated += 1
            await asyncio.sleep(0.02)  # no condition to await: the process is gone

    async def more(self, number: int) -> None:
        """Return when so many further rounds were begun."""
        wanted = self.begun + number
        async with asyncio.timeout(LIMIT_SECONDS):
            while self.begun < wanted:  # noqa: ASYNC110 - counted by many tasks
                await asyncio.sleep(0.05)


def _grant(workspace: str) -> pb.GrantRoleRequest:
    return pb.GrantRoleRequest(role="roles/viewer", resource=workspace, subject=BOB, request_id=_id())


def _id() -> str:
    return str(uuid.uuid4())


@pytest.mark.postgresql
async def test_kill_9_gives_no_wrong_answer_and_loses_no_acknowledged_write(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    async with _replicas(tmp_path, postgres_server) as replicas:
        load = Load(replicas)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(load.work())
            for kill in range(KILLS):
                await load.more(BETWEEN_KILLS)
                await replicas.kill(kill % 2)
            await load.more(BETWEEN_KILLS)
            load.stopping = True
        assert load.repeated, "no call met a killed process"
        for stub in replicas.stubs:
            request = pb.LookupResourcesRequest(
                resource_type="workspace",
                permission="read",
                subject=BOB,
                consistency=pb.Consistency(fully_consistent=True),
            )
            found = [each async for each in stub.LookupResources(request, metadata=load.owner)]
            assert {entry.resource for each in found for entry in each.resources} == load.kept


@pytest.mark.postgresql
async def test_what_one_replica_changes_another_soon_answers_without_a_token(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    async with _replicas(tmp_path, postgres_server) as replicas:
        load = Load(replicas)
        question = pb.CheckPermissionRequest(resource=WORKSPACE, permission="read", subject=BOB)

        async def allowed() -> bool:
            answer = await replicas.stubs[1].CheckPermission(question, metadata=load.owner)
            return bool(answer.decision.result == Allowed)

        assert not await allowed()
        await replicas.stubs[0].GrantRole(_grant(WORKSPACE), metadata=load.owner)
        async with asyncio.timeout(5):
            while not await allowed():  # noqa: ASYNC110 - told by another process
                await asyncio.sleep(0.005)


@asynccontextmanager
async def _changelog_locked(url: str) -> AsyncIterator[None]:
    """Nobody reads the changelog, as if the database had stopped in the middle of it."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE changelog IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.postgresql
async def test_who_was_turned_out_does_not_see_what_came_after_at_a_replica_that_cannot_read_on(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    async with _replicas(tmp_path, postgres_server) as replicas:
        load = Load(replicas)
        changing, behind = replicas.stubs
        granted = await changing.GrantRole(_grant(WORKSPACE), metadata=load.owner)
        await load._seen(1, WORKSPACE, granted.consistency_token, allowed=True)
        process = replicas.running[1].process
        process.send_signal(signal.SIGSTOP)
        name = granted.role_binding.name
        await changing.RevokeRole(pb.RevokeRoleRequest(name=name), metadata=load.owner)
        link = {"resource": ref("base", "n1"), "relation": "workspace", "subject": WORKSPACE}
        update = pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_TOUCH, relationship=link)
        made = await changing.WriteRelationships(pb.WriteRelationshipsRequest(updates=[update]), metadata=load.owner)
        question = pb.CheckPermissionRequest(resource=ref("base", "n1"), permission="read", subject=BOB)
        old = pb.CheckPermissionRequest(resource=WORKSPACE, permission="read", subject=BOB)
        async with _changelog_locked(postgres_server.url(replicas.database, "postgres")):
            process.send_signal(signal.SIGCONT)
            answer = await behind.CheckPermission(old, metadata=load.owner, timeout=5)
            assert answer.decision.result == Allowed, "the replica was not behind"
            for each in (old, question):
                each.consistency.at_least_as_fresh = made.consistency_token
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await behind.CheckPermission(each, metadata=load.owner, timeout=1)
                assert caught.value.code() in PASSING
        for each in (old, question):
            answer = await behind.CheckPermission(each, metadata=load.owner, timeout=10)
            assert answer.decision.result == pb.Decision.RESULT_DENIED
