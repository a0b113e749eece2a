"""The demo data against services that only write down what they are asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import demo, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime import status
from pyairtable_mesh.runtime.errors import AlreadyExists, Unavailable

GROUP = "groups/grp01m8473sshe2pag2k95ed6tvnx"


class Services(permission_pb2_grpc.PermissionServiceServicer, user_pb2_grpc.UserServiceServicer):
    """Both services in one; `failures` has the error that a method answers with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.failures: dict[str, Exception] = {}

    async def _answer(self, method: str, request: Any, context: Any, answer: Any) -> Any:
        self.asked.append((method, request))
        if (error := self.failures.get(method)) is not None:
            code = status.to_status(error)  # type: ignore[arg-type]
            details = ((status.DETAILS_KEY, code.SerializeToString()),)
            await context.abort(status.code_of(error), code.message, details)  # type: ignore[arg-type]
        return answer

    async def GrantRole(self, request: Any, context: Any) -> Any:
        return await self._answer("GrantRole", request, context, permission_pb2.GrantRoleResponse())

    async def WriteRelationships(self, request: Any, context: Any) -> Any:
        return await self._answer("WriteRelationships", request, context, permission_pb2.WriteRelationshipsResponse())

    async def CreateUser(self, request: Any, context: Any) -> Any:
        return await self._answer("CreateUser", request, context, user_pb2.User())

    async def SetUserStatus(self, request: Any, context: Any) -> Any:
        return await self._answer("SetUserStatus", request, context, user_pb2.User())

    async def CreateGroup(self, request: Any, context: Any) -> Any:
        return await self._answer("CreateGroup", request, context, user_pb2.Group(name=GROUP))

    async def AddGroupMember(self, request: Any, context: Any) -> Any:
        return await self._answer("AddGroupMember", request, context, user_pb2.GroupMember())


@asynccontextmanager
async def made_against(services: Services, folder: DataFolder) -> AsyncIterator[demo.Demo]:
    server = grpc.aio.server()
    permission_pb2_grpc.add_PermissionServiceServicer_to_server(services, server)
    user_pb2_grpc.add_UserServiceServicer_to_server(services, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with demo.connected(address, address, folder) as data:
            yield data
    finally:
        await server.stop(0)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


async def test_it_makes_an_owner_an_editor_by_group_and_one_without_a_role(folder: DataFolder) -> None:
    services = Services()
    async with made_against(services, folder) as data:
        await data.make()
    grants = [(each.role, each.resource, each.subject) for method, each in services.asked if method == "GrantRole"]
    assert grants == [
        ("roles/owner", f"tenant:{people.TENANT}", people.ALICE.subject),
        ("roles/editor", people.BASE, f"group:{GROUP.removeprefix('groups/')}#member"),
    ]
    assert [each.user_id for method, each in services.asked if method == "CreateUser"] == [
        person.id for person in people.PEOPLE
    ]
    ids = [each.request_id for _, each in services.asked]
    assert all(ids)
    assert len(set(ids)) == len(ids)


async def test_what_is_made_is_not_made_again(folder: DataFolder) -> None:
    services = Services()
    async with made_against(services, folder) as data:
        await data.make()
        made = len(services.asked)
        await data.make()
    assert len(services.asked) == made


async def test_a_run_that_was_cut_short_is_taken_up_with_the_same_request_ids(folder: DataFolder) -> None:
    services = Services()
    services.failures["WriteRelationships"] = Unavailable("gone", reason="GONE")
    async with made_against(services, folder) as data:
        with pytest.raises(Unavailable):
            await data.make()
        before = {(method, each.request_id) for method, each in services.asked}
        services.failures = {"GrantRole": AlreadyExists("binding", "rbn"), "CreateUser": AlreadyExists("user", "usr")}
        services.asked.clear()
        await data.make()
    assert before <= {(method, each.request_id) for method, each in services.asked}
