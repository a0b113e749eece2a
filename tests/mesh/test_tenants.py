"""Another tenant's rows: on every RPC of the running platform, with every name and id that the other tenant has.

The attackers are the owner of tenant B, and a user of B who has the id of A's owner (B's owner may choose it). The
requests are made from the descriptors and the schema's rules, so that a new RPC is attacked when it appears.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc, common_pb2, events_pb2
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import issuer
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime.ids import new_id
from pyairtable_mesh.runtime.validation import SchemaValidator
from tests.mesh.platform import Platform

FILES = (common_pb2, audit_pb2, events_pb2, permission_pb2, user_pb2)
SERVED = {
    "pyairtable.permission.v1.PermissionService": "permission",
    "pyairtable.user.v1.UserService": "user",
    "pyairtable.common.v1.AuditService": "audit",
    "pyairtable.common.v1.EventService": "user",
    "pyairtable.common.v1.DiagnosticsService": "audit",
}
METHODS = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]
NO_SIDE_EFFECTS = MethodOptions.NO_SIDE_EFFECTS
MARK = "Zanzibar-7319"
"""In every text of tenant A, and in no request of B's."""
LEFT_EMPTY = {
    *("etag", "page_token", "order_by", "space", "cursor", "consistency", "read_mask", "tenant"),
    *("start_token", "checkpoint_token", "expected_current", "subject_relation"),
    *(
        "condition",
        "contextual_relationships",
        "context",
        "known_positions",
        "preconditions",
        "resource_type",
        "subject_type",
    ),
}
FILLED = {("LookupSubjectsRequest", "subject_type"), ("LookupResourcesRequest", "resource_type")}
"""What is not left empty where a request says nothing without it."""
MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define reader: [user]\n"
SHOWS_THE_MARK = {
    "GetModelSpace",
    "ListModelSpaces",
    "GetUser",
    "BatchGetUsers",
    "ListUsers",
    "GetGroup",
    "ListGroups",
    "GetRole",
    "ListRoles",
    "ListAuditEvents",
    "TailAuditEvents",
}
"""Reads that show the mark to A's own owner: what tells that the attack's requests would have found something."""


@dataclass
class Tenant:
    """A tenant with its owner's token, and the names and ids of what it has."""

    id: str
    owner: str
    token: str
    names: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


@dataclass(frozen=True)
class Services:
    """Stubs on the running platform, and its channels by service."""

    user: user_pb2_grpc.UserServiceStub
    permission: permission_pb2_grpc.PermissionServiceStub
    audit: audit_pb2_grpc.AuditServiceStub
    channels: Mapping[str, grpc.aio.Channel]


@asynccontextmanager
async def connected(platform: Platform) -> AsyncIterator[Services]:
    async with (
        platform.channel("user") as user,
        platform.channel("permission") as permission,
        platform.channel("audit") as audit,
    ):
        yield Services(
            user_pb2_grpc.UserServiceStub(user),
            permission_pb2_grpc.PermissionServiceStub(permission),
            audit_pb2_grpc.AuditServiceStub(audit),
            {"user": user, "permission": permission, "audit": audit},
        )


async def settled(platform: Platform, services: Services, owner: str = "") -> Tenant:
    """A new tenant that belongs to `owner` (``usr…``)."""
    tenant = Tenant(new_id("ten"), owner or new_id("usr"), "")
    tenant.token = token(platform, tenant.owner, tenant.id)
    grant = permission_pb2.GrantRoleRequest(
        role="roles/owner", resource=f"tenant:{tenant.id}", subject=f"user:{tenant.owner}"
    )
    as_tenant_service = (("authorization", f"Bearer {platform.workload_token('tenant')}"),)
    await services.permission.GrantRole(grant, metadata=as_tenant_service, timeout=10)
    return tenant


def token(platform: Platform, user: str, tenant: str) -> str:
    return issuer.user_token(issuer.users(DataFolder(platform.data)), user, tenant)


async def furnish(services: Services, tenant: Tenant) -> None:
    """One of everything, marked; `tenant.names` has all names, ids and references."""
    more: Any = {"metadata": tenant.metadata, "timeout": 10}
    email = f"{tenant.owner}@example.com"
    user = user_pb2.User(display_name=MARK, email=email, job_title=MARK)
    await services.user.CreateUser(user_pb2.CreateUserRequest(user=user, user_id=tenant.owner), **more)
    activate = user_pb2.SetUserStatusRequest(
        name=f"users/{tenant.owner}", status=user_pb2.USER_STATUS_ACTIVE, reason=MARK
    )
    await services.user.SetUserStatus(activate, **more)
    group = await services.user.CreateGroup(
        user_pb2.CreateGroupRequest(group=user_pb2.Group(display_name=MARK, description=MARK)), **more
    )
    join = user_pb2.AddGroupMemberRequest(group=group.name, member=f"users/{tenant.owner}")
    await services.user.AddGroupMember(join, **more)
    base, workspace = f"base:{new_id('app')}", f"workspace:{new_id('wsp')}"
    link = permission_pb2.Relationship(resource=base, relation="workspace", subject=workspace)
    touch = permission_pb2.RelationshipUpdate.OPERATION_TOUCH
    update = permission_pb2.RelationshipUpdate(operation=touch, relationship=link)
    await services.permission.WriteRelationships(permission_pb2.WriteRelationshipsRequest(updates=[update]), **more)
    role = await services.permission.CreateRole(
        permission_pb2.CreateRoleRequest(
            role=permission_pb2.Role(display_name=MARK, description=MARK, permissions=["base.read"])
        ),
        **more,
    )
    members = f"group:{group.name.removeprefix('groups/')}#member"
    bound = await services.permission.GrantRole(
        permission_pb2.GrantRoleRequest(role=role.name, resource=base, subject=members), **more
    )
    space = await services.permission.CreateModelSpace(
        permission_pb2.CreateModelSpaceRequest(model_space=permission_pb2.ModelSpace(display_name=MARK)), **more
    )
    schema = await services.permission.WriteSchema(
        permission_pb2.WriteSchemaRequest(space=space.name, source=MODEL), **more
    )
    document = permission_pb2.Relationship(resource="doc:plan", relation="reader", subject=f"user:{tenant.owner}")
    update = permission_pb2.RelationshipUpdate(operation=touch, relationship=document)
    await services.permission.WriteRelationships(
        permission_pb2.WriteRelationshipsRequest(updates=[update], space=space.name), **more
    )
    tenant.names += [
        space.name,
        schema.schema.name,
        f"users/{tenant.owner}",
        f"user:{tenant.owner}",
        group.name,
        members.removesuffix("#member"),
        members,
        base,
        role.name,
        bound.role_binding.name,
        f"tenant:{tenant.id}",
        f"users/{tenant.owner}/settings",
        f"users/{tenant.owner}/preferences",
        f"tenants/{tenant.id}",
        workspace,
        tenant.owner,
        email,
    ]


async def logged(services: Services, tenant: Tenant) -> None:
    """Wait until the tenant's mark is in its audit log."""
    tail = services.audit.TailAuditEvents(audit_pb2.TailAuditEventsRequest(), metadata=tenant.metadata, timeout=30)
    async for response in tail:
        if MARK in str(response):
            return


async def state(services: Services, tenant: Tenant) -> list[str]:
    """All that the owner sees of the tenant."""
    more: Any = {"metadata": tenant.metadata, "timeout": 10}
    group = next(name for name in tenant.names if name.startswith("groups/"))
    everything = permission_pb2.RelationshipFilter(resource_type="base")
    members = permission_pb2.RelationshipFilter(resource=f"group:{group.removeprefix('groups/')}")
    answers: Sequence[Message] = [
        await services.user.ListUsers(user_pb2.ListUsersRequest(show_deleted=True), **more),
        await services.user.ListGroups(user_pb2.ListGroupsRequest(), **more),
        await services.user.ListGroupMembers(user_pb2.ListGroupMembersRequest(group=group), **more),
        await services.user.GetSettings(user_pb2.GetSettingsRequest(name=f"users/{tenant.owner}/settings"), **more),
        await services.user.GetPreferences(
            user_pb2.GetPreferencesRequest(name=f"users/{tenant.owner}/preferences"), **more
        ),
        await services.permission.ListRoles(permission_pb2.ListRolesRequest(), **more),
        await services.permission.ListModelSpaces(permission_pb2.ListModelSpacesRequest(), **more),
        await services.permission.ReadRelationships(
            permission_pb2.ReadRelationshipsRequest(
                filter=permission_pb2.RelationshipFilter(resource_type="doc"),
                space=next(name for name in tenant.names if name.startswith("modelSpaces/")),
            ),
            **more,
        ),
        *[
            await services.permission.ReadRelationships(permission_pb2.ReadRelationshipsRequest(filter=which), **more)
            for which in (everything, members)
        ],
        *[
            await services.permission.ListRoleBindings(permission_pb2.ListRoleBindingsRequest(resource=name), **more)
            for name in tenant.names
            if name.startswith(("base:", "tenant:"))
        ],
    ]
    for answer in answers:  # tokens hold the revision, which other tenants' changes may move
        for name in ("consistency_token", "revision"):
            if name in answer.DESCRIPTOR.fields_by_name:
                answer.ClearField(name)
    return [str(answer) for answer in answers]


def requests(method: MethodDescriptor, names: Sequence[str]) -> Iterator[Any]:
    """For each name of the other tenant a request that has it wherever the schema's rules let it stand."""
    for name in names:
        kind = message_factory.GetMessageClass(method.input_type)
        request = aimed(kind(), [name, *names, str(uuid.uuid4()), "base.read", "Mallory"])
        yield request
        if "space" in request.DESCRIPTOR.fields_by_name:
            within = kind()
            within.CopyFrom(request)
            within.space = next(each for each in names if each.startswith("modelSpaces/"))
            yield within


VALIDATOR = SchemaValidator()
WORDS = {
    "permission": "read",
    "relation": "member",
    "paths": "*",
    "resource_types": "base",
    "resource_type": "base",
    "subject_type": "user",
    "source": MODEL,
    "text": MODEL,
}
"""What stands in fields that name no resource."""


def aimed(message: Any, texts: Sequence[str], depth: int = 4) -> Any:
    """Every field set to the first of `texts`, or number, that its rules take."""
    for each in message.DESCRIPTOR.fields:
        inner = each.message_type
        if (
            (each.name in LEFT_EMPTY and (message.DESCRIPTOR.name, each.name) not in FILLED)
            or (each.containing_oneof and message.WhichOneof(each.containing_oneof.name))
            or (each.name == "filter" and not inner)
            or (inner and (not depth or inner.GetOptions().map_entry))
        ):
            continue
        if inner:
            value = getattr(message, each.name)
            aimed(value.add() if each.is_repeated else value, texts, depth - 1)
        elif each.cpp_type == FieldDescriptor.CPPTYPE_STRING and each.type != FieldDescriptor.TYPE_BYTES:
            wanted = [WORDS[each.name]] if each.name in WORDS else texts
            users = [text for text in texts if text.startswith("user:")] if each.name == "subject" else []
            first_fitting(message, each, [*users, *wanted])
        elif each.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            first_fitting(message, each, (1, 2))
        elif each.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            setattr(message, each.name, each.name != "validate_only")
    return message


def first_fitting(message: Any, each: FieldDescriptor, values: Sequence[Any]) -> None:
    for value in values:
        if each.is_repeated:
            del getattr(message, each.name)[:]
            getattr(message, each.name).append(value)
        else:
            setattr(message, each.name, value)
        if not any(broken.field.partition("[")[0] == each.name for broken in VALIDATOR.violations(message)):
            return
    message.ClearField(each.name)


async def answer(services: Services, method: MethodDescriptor, request: Any, bearer: str) -> Message | grpc.StatusCode:
    """What a call is answered with; of a stream the first message."""
    assert method.containing_service is not None
    service = method.containing_service.full_name
    channel: Any = services.channels[SERVED[service]]
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    make: Any = kinds[method.client_streaming, method.server_streaming](
        f"/{service}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    metadata = (("authorization", f"Bearer {bearer}"),)
    call = make(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=10)
    try:
        if not method.server_streaming:
            return await call  # type: ignore[no-any-return]
        first = await call.read()
        call.cancel()
    except grpc.aio.AioRpcError:
        code: grpc.StatusCode = await call.code()
        return code
    return first  # type: ignore[no-any-return]


def shows(answered: Message | grpc.StatusCode) -> bool:
    """Whether an answer has anything of tenant A."""
    return isinstance(answered, Message) and MARK.encode() in answered.SerializeToString()


async def test_no_rpc_reaches_another_tenants_rows(platform: Platform) -> None:
    seen_by_owner, valid, implemented = set(), set(), set()
    async with connected(platform) as services:
        ours = await settled(platform, services)
        await furnish(services, ours)
        mallory = await settled(platform, services)
        namesake = await settled(platform, services, ours.owner)
        await logged(services, ours)
        before = await state(services, ours)
        for method in METHODS:
            for request in requests(method, ours.names):
                for attacker in (mallory, namesake):
                    found = await answer(services, method, request, attacker.token)
                    assert not shows(found), f"{method.full_name} shows {found} for {request}"
                    if found is not grpc.StatusCode.UNIMPLEMENTED:
                        implemented.add(method.name)
                        if found is not grpc.StatusCode.INVALID_ARGUMENT:
                            valid.add(method.name)
                if method.GetOptions().idempotency_level == NO_SIDE_EFFECTS:
                    found = await answer(services, method, request, ours.token)
                    seen_by_owner |= {method.name} if shows(found) else set()
        assert await state(services, ours) == before
    assert seen_by_owner >= SHOWS_THE_MARK, "the requests find nothing, even for the owner"
    assert implemented - valid == set(), "no request of the attack was valid"


async def test_a_page_or_request_of_another_tenant_is_not_continued(platform: Platform) -> None:
    async with connected(platform) as services:
        ours = await settled(platform, services)
        await furnish(services, ours)
        theirs = await settled(platform, services, ours.owner)
        more: Any = {"metadata": ours.metadata, "timeout": 10}
        page = await services.permission.ListRoles(permission_pb2.ListRolesRequest(page_size=1), **more)
        stolen = permission_pb2.ListRolesRequest(page_size=1, page_token=page.next_page_token)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await services.permission.ListRoles(stolen, metadata=theirs.metadata, timeout=10)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        group = user_pb2.Group(display_name=MARK)
        same = user_pb2.CreateGroupRequest(group=group, request_id=str(uuid.uuid4()))
        made = await services.user.CreateGroup(same, **more)
        other = await services.user.CreateGroup(same, metadata=theirs.metadata, timeout=10)
        again = await services.user.CreateGroup(same, **more)
    assert (made.name == again.name, made.name == other.name) == (True, False)


async def test_what_an_outsider_does_is_not_in_our_audit_log(platform: Platform) -> None:
    async with connected(platform) as services:
        ours = await settled(platform, services)
        mallory = await settled(platform, services)
        request = user_pb2.DeleteUserRequest(name=f"users/{ours.owner}")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await services.user.DeleteUser(request, metadata=mallory.metadata, timeout=10)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        log = await services.audit.ListAuditEvents(
            audit_pb2.ListAuditEventsRequest(), metadata=ours.metadata, timeout=10
        )
    assert mallory.owner not in str(log)
