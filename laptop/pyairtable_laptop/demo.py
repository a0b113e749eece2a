"""The demo data, made over the services' own RPCs as their clients would, and the two calls of the first screen.

Every change has a constant request id, so that a run that was cut short is taken up by the next; when all of it is
there, a file says so, and what people change or delete afterwards stays as they left it.
"""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder, write_private
from pyairtable_laptop.people import ALICE, BASE, BOB, CAROL, PEOPLE, TABLE, TENANT, WORKSPACE, Person
from pyairtable_mesh.runtime import status
from pyairtable_mesh.runtime.errors import MeshError, NotFound, PermissionDenied
from pyairtable_mesh.runtime.retries import RetryPolicy

CALL_SECONDS = 10.0
FIRST_OWNER_GRANTED_BY = "tenant"
"""The service account that may bind a tenant's first owner."""

T = TypeVar("T")
Metadata = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was really made: who asked for what, what came back, and the sentence that says why."""

    person: str
    call: str
    allowed: bool
    answer: str
    why: str


class Demo:
    """Calls the permission and the user service with the tokens of demo users."""

    def __init__(self, permission: grpc.aio.Channel, user: grpc.aio.Channel, folder: DataFolder) -> None:
        self._permission = permission_pb2_grpc.PermissionServiceStub(permission)
        self._user = user_pb2_grpc.UserServiceStub(user)
        self._folder = folder
        self._tokens = issuer.users(folder)

    async def make(self) -> None:
        """Make what is missing; nothing when a run before this one made it. `MeshError` when a service refuses."""
        if self._folder.demo_file.exists():
            return
        await self._grant_first_owner()
        for person in PEOPLE:
            await self._add_person(person)
        group = await self._add_group()
        await self._add_base(group)
        write_private(self._folder.demo_file, json.dumps({"tenant": TENANT, "group": group}).encode())

    async def first_calls(self) -> list[Made]:
        """The same call by one who may and by one who may not."""
        return [await self._get_bob(ALICE), await self._get_bob(CAROL)]

    async def _grant_first_owner(self) -> None:
        token = issuer.workload_token(issuer.workloads(self._folder), FIRST_OWNER_GRANTED_BY)
        request = permission_pb2.GrantRoleRequest(
            role="roles/owner", resource=f"tenant:{TENANT}", subject=ALICE.subject, request_id=_id("owner")
        )
        await _once(self._permission.GrantRole(request, metadata=_bearer(token), timeout=CALL_SECONDS))

    async def _add_person(self, person: Person) -> None:
        user = user_pb2.User(
            email=f"{person.name}@example.com",
            display_name=f"{person.given_name} {person.family_name}",
            given_name=person.given_name,
            family_name=person.family_name,
        )
        create = user_pb2.CreateUserRequest(user=user, user_id=person.id, request_id=_id(f"user/{person.name}"))
        await _once(self._user.CreateUser(create, metadata=self._as(ALICE), timeout=CALL_SECONDS))
        activate = user_pb2.SetUserStatusRequest(
            name=person.resource_name,
            status=user_pb2.USER_STATUS_ACTIVE,
            reason="demo data",
            request_id=_id(f"status/{person.name}"),
        )
        await _once(self._user.SetUserStatus(activate, metadata=self._as(ALICE), timeout=CALL_SECONDS))

    async def _add_group(self) -> str:
        create = user_pb2.CreateGroupRequest(
            group=user_pb2.Group(display_name=people.GROUP_NAME), request_id=_id("group")
        )
        group = await _told(self._user.CreateGroup(create, metadata=self._as(ALICE), timeout=CALL_SECONDS))
        join = user_pb2.AddGroupMemberRequest(group=group.name, member=BOB.resource_name, request_id=_id("member"))
        await _told(self._user.AddGroupMember(join, metadata=self._as(ALICE), timeout=CALL_SECONDS))
        return group.name

    async def _add_base(self, group: str) -> None:
        # One after the other: who attaches a table must have the permission to at a base that is there already.
        await self._attach(BASE, "workspace", WORKSPACE)
        await self._attach(TABLE, "base", BASE)
        members = f"group:{group.removeprefix('groups/')}#member"
        grant = permission_pb2.GrantRoleRequest(
            role="roles/editor", resource=BASE, subject=members, request_id=_id("editors")
        )
        await _once(self._permission.GrantRole(grant, metadata=self._as(ALICE), timeout=CALL_SECONDS))

    async def _attach(self, resource: str, relation: str, parent: str) -> None:
        link = permission_pb2.Relationship(resource=resource, relation=relation, subject=parent)
        update = permission_pb2.RelationshipUpdate(
            operation=permission_pb2.RelationshipUpdate.OPERATION_TOUCH, relationship=link
        )
        write = permission_pb2.WriteRelationshipsRequest(updates=[update], request_id=_id(f"link/{resource}"))
        await _told(self._permission.WriteRelationships(write, metadata=self._as(ALICE), timeout=CALL_SECONDS))

    async def _get_bob(self, person: Person) -> Made:
        request = user_pb2.GetUserRequest(name=BOB.resource_name)
        call = f"user GetUser {BOB.resource_name}"
        try:
            user = await _told(self._user.GetUser(request, metadata=self._as(person), timeout=CALL_SECONDS))
        except (NotFound, PermissionDenied) as error:
            code = status.code_of(error).name
            return Made(person.name, call, False, code, await self._why(person))
        return Made(person.name, call, True, user.display_name, await self._why(person))

    async def _why(self, person: Person) -> str:
        question = permission_pb2.ExplainPermissionRequest(
            resource=f"tenant:{TENANT}", permission="read", subject=person.subject
        )
        answer = await _told(
            self._permission.ExplainPermission(question, metadata=self._as(ALICE), timeout=CALL_SECONDS)
        )
        return answer.sentence

    def _as(self, person: Person) -> Metadata:
        return _bearer(issuer.user_token(self._tokens, person.id, TENANT, 60))


@asynccontextmanager
async def connected(permission: str, user: str, folder: DataFolder) -> AsyncIterator[Demo]:
    """A Demo over plain channels to two addresses (``host:port``)."""
    options = [
        ("grpc.service_config", json.dumps(RetryPolicy().service_config())),
        ("grpc.enable_http_proxy", 0),
    ]
    async with (
        grpc.aio.insecure_channel(permission, options) as permission_channel,
        grpc.aio.insecure_channel(user, options) as user_channel,
    ):
        yield Demo(permission_channel, user_channel, folder)


def _id(what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://mesh.pyairtable.io/demo/{what}"))


def _bearer(token: str) -> Metadata:
    return [("authorization", f"Bearer {token}")]


async def _told(call: Awaitable[T]) -> T:
    """Await a call; its failure is an error of the tree."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error, "called") from None


async def _once(call: Awaitable[object]) -> None:
    """Await a change; what an earlier run has done already is well."""
    try:
        await _told(call)
    except MeshError as error:
        if status.code_of(error) is not grpc.StatusCode.ALREADY_EXISTS:
            raise
