"""Two user services beside one permission service, as real processes: their replicas are fresh, survive it, and fail
closed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from pyairtable.common.v1 import common_pb2, common_pb2_grpc
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_mesh.runtime.ids import new_id
from tests.contract.processes import Running, Site

TENANT, OWNER, GUEST = new_id("ten"), new_id("usr"), new_id("usr")
BUDGET_SECONDS = 2.0
ROUNDS = 20
ALLOWED, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
AWAY = grpc.StatusCode.UNAVAILABLE
SECONDS = 30.0


@dataclass
class Instance:
    """A user service, asked by the guest."""

    channel: grpc.aio.Channel
    guest: tuple[tuple[str, str], ...]

    async def answers(self, token: str = "") -> grpc.StatusCode:
        """How a call ends that the tenant's readers may make."""
        seen = (("x-consistency-token", token),) if token else ()
        try:
            stub = user_pb2_grpc.UserServiceStub(self.channel)
            await stub.ListUsers(user_pb2.ListUsersRequest(), metadata=(*self.guest, *seen), timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return ALLOWED

    async def replica(self) -> common_pb2.DependencyHealth:
        """The replica's row of the health report."""
        stub = common_pb2_grpc.DiagnosticsServiceStub(self.channel)
        report = await stub.GetHealthReport(common_pb2.GetHealthReportRequest(), metadata=self.guest, timeout=5)
        assert report.state == common_pb2.HEALTH_STATE_HEALTHY
        return next(each for each in report.dependencies if each.name == "permission-replica")


class Place:
    """A permission service that can be killed and started again, and two user services that ask it."""

    def __init__(self, site: Site, resources: AsyncExitStack) -> None:
        self._site = site
        self._resources = resources
        self.users: list[Instance] = []

    async def begin(self) -> None:
        """Start everything; the owner owns the tenant."""
        self.permission = await self._start("permission")
        await self._site.grant_owner(self.permission, OWNER, TENANT)
        _, _, token = self._site.as_workload("user")[0][1].rpartition(" ")
        token_file = self._site.folder / "user.jwt"
        token_file.write_text(token)
        for number in range(2):
            user = await self._start(
                "user",
                database_url=f"sqlite:///{self._site.folder}/user-{number}.db",
                peers=f"permission=127.0.0.1:{self.permission.ports['grpc_port']}",
                workload_token_file=token_file,
                replica_budget_seconds=BUDGET_SECONDS,
            )
            channel = await self._resources.enter_async_context(user.channel())
            self.users.append(Instance(channel, self._site.as_user(GUEST, TENANT)))

    async def restart(self) -> None:
        """Start the permission service again, on its port and database."""
        self.permission = await self._start("permission", grpc_port=self.permission.ports["grpc_port"])

    async def kill(self) -> None:
        """``kill -9`` of the permission service."""
        self.permission.process.kill()
        await self.permission.ended()

    async def grant(self) -> pb.GrantRoleResponse:
        """Let the guest read."""
        request = pb.GrantRoleRequest(role="roles/viewer", resource=f"tenant:{TENANT}", subject=f"user:{GUEST}")
        answer: pb.GrantRoleResponse = await self._asked(lambda stub, owner: stub.GrantRole(request, metadata=owner))
        return answer

    async def revoke(self, name: str) -> str:
        """Take it back; the token."""
        request = pb.RevokeRoleRequest(name=name)
        answer = await self._asked(lambda stub, owner: stub.RevokeRole(request, metadata=owner))
        return str(answer.consistency_token)

    async def _asked(self, call: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async with self.permission.channel() as channel:
            return await call(permission_pb2_grpc.PermissionServiceStub(channel), self._site.as_user(OWNER, TENANT))

    async def _start(self, service: str, **settings: object) -> Running:
        return await self._resources.enter_async_context(self._site.running(service, **settings))


@asynccontextmanager
async def placed(folder: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as resources:
        place = Place(Site(folder), resources)
        await place.begin()
        yield place


async def _until(instance: Instance, wanted: grpc.StatusCode) -> float:
    """Ask until a call ends as wanted; how long that took."""
    begun = time.monotonic()
    async with asyncio.timeout(SECONDS):
        while (found := await instance.answers()) is not wanted:
            assert found in {ALLOWED, AWAY}
    return time.monotonic() - begun


async def test_what_is_granted_and_revoked_is_seen_by_every_replica_and_never_late_with_a_token(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        for _ in range(ROUNDS):
            granted = await place.grant()
            # Whoever was granted something is let in at once, token or not: a denial is the server's own.
            assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
            token = await place.revoke(granted.role_binding.name)
            assert [await each.answers(token) for each in place.users] == [DENIED, DENIED]
        for _ in range(ROUNDS):
            granted = await place.grant()
            assert [await each.answers(granted.consistency_token) for each in place.users] == [ALLOWED, ALLOWED]
            await place.revoke(granted.role_binding.name)
            delays = await asyncio.gather(*(_until(each, DENIED) for each in place.users))
            assert max(delays) < 1.0  # bench/replica.py measures it
        rows = [await each.replica() for each in place.users]
        assert {row.state for row in rows} == {common_pb2.HEALTH_STATE_HEALTHY}
        assert not any(row.required for row in rows)


async def test_the_replicas_outlive_the_permission_service_for_their_budget_then_fail_closed_and_recover(
    tmp_path: Path,
) -> None:
    async with placed(tmp_path) as place:
        granted = await place.grant()
        for each in place.users:
            assert await each.answers(granted.consistency_token) is ALLOWED
        await asyncio.gather(*(_in_process(each) for each in place.users))
        killed = time.monotonic()
        await place.kill()
        assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
        # Under load all the while: every call is allowed in process, until none is allowed at all.
        await asyncio.gather(*(_until(each, AWAY) for each in place.users))
        assert BUDGET_SECONDS / 2 < time.monotonic() - killed < BUDGET_SECONDS + 3
        for each in place.users:
            assert await each.answers(granted.consistency_token) is AWAY
            assert (await each.replica()).state == common_pb2.HEALTH_STATE_DEGRADED
        await place.restart()
        for each in place.users:
            await _until(each, ALLOWED)
            await _in_process(each)
        token = await place.revoke(granted.role_binding.name)
        assert [await each.answers(token) for each in place.users] == [DENIED, DENIED]


async def _in_process(instance: Instance) -> None:
    """Return when the instance's replica is there and fresh."""
    async with asyncio.timeout(SECONDS):
        while (await instance.replica()).state != common_pb2.HEALTH_STATE_HEALTHY:
            await instance.answers()
