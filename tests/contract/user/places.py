"""A permission service and two user services beside it, as real processes; and a relay that can hold up its streams."""

import asyncio
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
ALLOWED, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED


class Relay(grpc.GenericRpcHandler):
    """Passes on calls to the permission service; while `flowing` is not set, its streams bring nothing."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = 0
        self.asked = 0
        """How many calls were passed on that were no streams."""

    def service(self, handler_call_details: Any) -> Any:
        method, said = handler_call_details.method, handler_call_details.invocation_metadata
        metadata = [(key, value) for key, value in said if key in {"authorization", "traceparent"}]

        async def call(request: bytes, _context: Any) -> bytes:
            self.asked += 1
            answer: bytes = await self._channel.unary_unary(method)(request, metadata=metadata)
            return answer

        async def stream(request: bytes, _context: Any) -> AsyncIterator[bytes]:
            async for message in self._channel.unary_stream(method)(request, metadata=metadata):
                await self.flowing.wait()
                yield message

        if method.endswith("/StreamReplica"):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(call)


@asynccontextmanager
async def relayed(permission: Running) -> AsyncIterator[Relay]:
    """A relay in front of a permission service."""
    async with permission.channel() as channel:
        relay, server = Relay(channel), grpc.aio.server()
        server.add_generic_rpc_handlers((relay,))
        relay.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        yield relay
        await server.stop(0)


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

    async def begin(self, budget: float, *, relay: bool) -> None:
        """Start everything; the owner owns the tenant."""
        self.permission = await self._start("permission")
        port = self.permission.ports["grpc_port"]
        if relay:
            self.relay = await self._resources.enter_async_context(relayed(self.permission))
            port = self.relay.port
        await self._site.grant_owner(self.permission, OWNER, TENANT)
        _, _, token = self._site.as_workload("user")[0][1].rpartition(" ")
        token_file = self._site.folder / "user.jwt"
        token_file.write_text(token)
        for number in range(2):
            user = await self._start(
                "user",
                database_url=f"sqlite:///{self._site.folder}/user-{number}.db",
                peers=f"permission=127.0.0.1:{port}",
                workload_token_file=token_file,
                replica_budget_seconds=budget,
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

    async def change_content(self) -> str:
        """Change something behind everything that was changed before; the token."""
        link = {"resource": f"base:{new_id('app')}", "relation": "workspace", "subject": f"workspace:{new_id('wsp')}"}
        update = pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_TOUCH, relationship=link)
        request = pb.WriteRelationshipsRequest(updates=[update])
        answer = await self._asked(lambda stub, owner: stub.WriteRelationships(request, metadata=owner))
        return str(answer.consistency_token)

    async def _asked(self, call: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async with self.permission.channel() as channel:
            return await call(permission_pb2_grpc.PermissionServiceStub(channel), self._site.as_user(OWNER, TENANT))

    async def _start(self, service: str, **settings: object) -> Running:
        return await self._resources.enter_async_context(self._site.running(service, **settings))


@asynccontextmanager
async def placed(folder: Path, budget: float = BUDGET_SECONDS, *, relay: bool = False) -> AsyncIterator[Place]:
    """All of it, with a relay between where that is wanted; `budget` is how long a silent stream is believed."""
    async with AsyncExitStack() as resources:
        place = Place(Site(folder), resources)
        await place.begin(budget, relay=relay)
        yield place
