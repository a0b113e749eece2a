"""``kill -9`` under a load of changes: whatever was acknowledged is there afterwards, once, and in the audit log."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop.people import WORKSPACE
from pyairtable_mesh.runtime.ids import new_id
from tests.mesh.platform import Platform, started

WORKERS = 6
KILLS = 3
ACKNOWLEDGED_BETWEEN = 20
LIMIT_SECONDS = 90.0
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

Change = Callable[[str, str], Awaitable[str]]
"""Makes one change of a user under a request id; what the change is known by afterwards."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with started(tmp_path_factory.mktemp("durability")) as running:
        yield running


@dataclass
class Load:
    """Changes that go on until stopped; each is repeated under its request id until it is acknowledged."""

    change: Change
    acknowledged: list[str] = field(default_factory=list)
    repeated: int = 0
    stopping: bool = False

    async def work(self) -> None:
        while not self.stopping:
            self.acknowledged.append(await self._insist(str(uuid.uuid4()), new_id("usr")))

    async def _insist(self, request_id: str, user: str) -> str:
        while True:
            try:
                return await self.change(request_id, user)
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    raise
                self.repeated += 1
                await asyncio.sleep(0.02)  # no condition to await: the process is gone

    async def more(self, count: int) -> None:
        """Return when `count` further changes were acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - counted by many tasks
                await asyncio.sleep(0.01)


async def killed_under_load(platform: Platform, process: str, change: Change) -> Load:
    """Kill a process again and again while changes are made, and let the last of them be acknowledged."""
    load = Load(change)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(load.work())
        for _ in range(KILLS):
            await load.more(ACKNOWLEDGED_BETWEEN)
            told = len(platform.events)
            os.kill(platform.pid(process), signal.SIGKILL)
            await platform.event("serving", process, told)
        await load.more(ACKNOWLEDGED_BETWEEN)
        load.stopping = True
    assert load.repeated, "no change met a killed process"
    assert len(set(load.acknowledged)) == len(load.acknowledged)
    return load


async def audited(platform: Platform, action: str, resources: Sequence[str]) -> None:
    """Every one of the acts is in the log, once, and the log's chain is whole."""
    async with connected(platform, "audit", audit_pb2_grpc.AuditServiceStub) as audit, asyncio.timeout(LIMIT_SECONDS):
        found = await _logged(platform, audit, action, set(resources), len(resources))
        assert sorted(found) == sorted(resources)
        report = await audit.VerifyAuditLog(audit_pb2.VerifyAuditLogRequest(), metadata=platform.metadata("alice"))
    assert (report.valid, report.broken_reason) == (True, "")


async def _logged(platform: Platform, audit: Any, action: str, resources: set[str], count: int) -> list[str]:
    found, cursor = list[str](), ""
    while True:
        request = audit_pb2.TailAuditEventsRequest(filter=f'action = "{action}"', cursor=cursor)
        try:
            async for response in audit.TailAuditEvents(request, metadata=platform.metadata("alice")):
                found += [event.resource for event in response.audit_events if event.resource in resources]
                cursor = response.cursor
                if len(found) >= count:
                    return found
        except grpc.aio.AioRpcError as error:  # it asks the permission service, which was killed a moment ago
            if error.code() not in PASSING:
                raise


@asynccontextmanager
async def connected(platform: Platform, process: str, make: Callable[[grpc.aio.Channel], Any]) -> AsyncIterator[Any]:
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
    async with grpc.aio.insecure_channel(platform.address(process), options) as channel:
        yield make(channel)


async def test_killing_the_user_service_loses_no_acknowledged_change(victim: Platform) -> None:
    metadata = victim.metadata("alice")
    async with connected(victim, "user", user_pb2_grpc.UserServiceStub) as users:

        async def create(request_id: str, user_id: str) -> str:
            user = user_pb2.User(display_name="Erin Evans", email=f"{user_id}@example.com")
            request = user_pb2.CreateUserRequest(user=user, request_id=request_id)
            return str((await users.CreateUser(request, metadata=metadata, timeout=5)).name)

        load = await killed_under_load(victim, "user", create)
        listed, token = list[str](), ""
        while True:
            page = await users.ListUsers(
                user_pb2.ListUsersRequest(page_size=1000, page_token=token), metadata=metadata, timeout=10
            )
            listed += [user.name for user in page.users if user.display_name == "Erin Evans"]
            token = page.next_page_token
            if not token:
                break
    assert sorted(listed) == sorted(load.acknowledged)
    await audited(
        victim,
        "pyairtable.user.v1.UserService/CreateUser",
        [f"user:{name.removeprefix('users/')}" for name in load.acknowledged],
    )


async def test_killing_the_permission_service_loses_no_acknowledged_change(victim: Platform) -> None:
    metadata = victim.metadata("alice")
    async with connected(victim, "permission", permission_pb2_grpc.PermissionServiceStub) as permissions:

        async def grant(request_id: str, user_id: str) -> str:
            request = permission_pb2.GrantRoleRequest(
                role="roles/viewer", resource=WORKSPACE, subject=f"user:{user_id}", request_id=request_id
            )
            answer = await permissions.GrantRole(request, metadata=metadata, timeout=5)
            return str(answer.role_binding.name)

        load = await killed_under_load(victim, "permission", grant)
        listed, token = list[str](), ""
        while True:
            request = permission_pb2.ListRoleBindingsRequest(resource=WORKSPACE, page_size=1000, page_token=token)
            page = await permissions.ListRoleBindings(request, metadata=metadata, timeout=10)
            listed += [each.name for each in page.role_bindings]
            token = page.next_page_token
            if not token:
                break
    assert sorted(listed) == sorted(load.acknowledged)
    await audited(victim, "pyairtable.permission.v1.PermissionService/GrantRole", [WORKSPACE] * len(load.acknowledged))
