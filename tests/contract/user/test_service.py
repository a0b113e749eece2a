"""UserService as its clients see it: through the interceptors, the use cases and the database."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.user.access import ACCESS
from tests.contract.user.serving import ADMIN, MEMBER, OTHER_TENANT, TENANT, Served, as_user, served

SERVICE = user_pb2.DESCRIPTOR.services_by_name["UserService"]
ABSENT = "usr" + "9" * 26
PROFILES = {ADMIN: "Ada Lovelace", MEMBER: "Bob Babbage"}


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Served]:
    async with served(database) as running:
        for user, name in PROFILES.items():
            profile = user_pb2.User(email=f"{name.split()[0]}@example.com", display_name=name)
            await running.stub.CreateUser(user_pb2.CreateUserRequest(user=profile, user_id=user), metadata=as_user())
        yield running


def name_of(user: str) -> str:
    return f"users/{user}"


async def call(service: Served, method: str, request: Message, *, who: str = ADMIN, tenant: str = TENANT) -> Any:
    return await getattr(service.stub, method)(request, metadata=as_user(who, tenant))


async def refusal(
    service: Served, method: str, request: Message, *, who: str = ADMIN, tenant: str = TENANT
) -> tuple[grpc.StatusCode, str, list[str]]:
    """The code, the reason and the fields of the violations that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call(service, method, request, who=who, tenant=tenant)
    trailing = dict(failed.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        assert detail.Unpack(info) or detail.Unpack(bad) or detail.type_url
    assert info.domain == "pyairtable.io"
    return failed.value.code(), info.reason, [violation.field for violation in bad.field_violations]


def empty_request(method: str) -> Any:
    return message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)()


async def test_what_a_later_release_does_says_so(service: Served) -> None:
    for method in SERVICE.methods:
        if method.name in ACCESS or method.server_streaming:
            continue
        code, reason, _ = await refusal(service, method.name, empty_request(method.name))
        assert (code, reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"), method.name


BAD = {
    "name": "users/usr1",
    "member": "bob",
    "request_id": "1",
    "page_size": -1,
    "page_token": "x" * 3000,
    "filter": "\0",
    "order_by": "x" * 201,
    "query": "\0",
    "user_id": "bob",
}


async def test_bad_input_gets_a_violation_for_each_bad_field(service: Served) -> None:
    for method in sorted(ACCESS.keys() - {"GetMe"}):
        request = empty_request(method)
        fields = request.DESCRIPTOR.fields_by_name
        bad = {field: value for field, value in BAD.items() if field in fields}
        for field, value in bad.items():
            setattr(request, field, value)
        code, _, violations = await refusal(service, method, request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT, method
        assert bad.keys() <= set(violations), method
        assert violations, method


@pytest.mark.parametrize(
    ("method", "request_", "field", "reason"),
    [
        ("ListUsers", user_pb2.ListUsersRequest(filter="name = 1"), "filter", "FILTER_INVALID"),
        ("ListUsers", user_pb2.ListUsersRequest(order_by="status"), "order_by", "FILTER_INVALID"),
        ("ListUsers", user_pb2.ListUsersRequest(page_token="AAAA"), "page_token", "PAGE_TOKEN_INVALID"),
        ("ListGroups", user_pb2.ListGroupsRequest(filter="email = x"), "filter", "FILTER_INVALID"),
        ("SearchUsers", user_pb2.SearchUsersRequest(query="a", page_token="AAAA"), "page_token", "PAGE_TOKEN_INVALID"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    service: Served, method: str, request_: Message, field: str, reason: str
) -> None:
    assert await refusal(service, method, request_) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


async def test_a_profile_is_kept_in_its_bounds(service: Served) -> None:
    profile = user_pb2.User(email="nope", display_name="a\0", avatar_uri="http://x", job_title="x" * 201)
    _, _, violations = await refusal(service, "CreateUser", user_pb2.CreateUserRequest(user=profile))
    assert sorted(set(violations)) == ["user.avatar_uri", "user.display_name", "user.email", "user.job_title"]
    request = user_pb2.UpdateUserRequest(user=user_pb2.User(name=name_of(ADMIN)))
    request.update_mask.paths.append("email")
    assert await refusal(service, "UpdateUser", request) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "VALIDATION_FAILED",
        ["update_mask"],
    )


async def test_a_member_may_not_manage(service: Served) -> None:
    for method in sorted(method for method, row in ACCESS.items() if row.permission.startswith("manage")):
        code, reason, _ = await refusal(service, method, empty_request(method), who=MEMBER)
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"), method


async def test_a_user_changes_its_own_profile_and_nobody_elses(service: Served) -> None:
    own = user_pb2.User(name=name_of(MEMBER), job_title="Engineer")
    changed = await call(service, "UpdateUser", user_pb2.UpdateUserRequest(user=own), who=MEMBER)
    assert changed.job_title == "Engineer"
    assert await call(service, "GetMe", user_pb2.GetMeRequest(), who=MEMBER) == changed
    other = user_pb2.UpdateUserRequest(user=user_pb2.User(name=name_of(ADMIN), job_title="Clerk"))
    assert (await refusal(service, "UpdateUser", other, who=MEMBER))[0] is grpc.StatusCode.PERMISSION_DENIED
    theirs = user_pb2.GetPreferencesRequest(name=f"{name_of(ADMIN)}/preferences")
    assert (await refusal(service, "GetPreferences", theirs, who=MEMBER))[0] is grpc.StatusCode.PERMISSION_DENIED
    itself = user_pb2.SetUserStatusRequest(name=name_of(MEMBER), status=user_pb2.USER_STATUS_ACTIVE, reason="me")
    assert (await refusal(service, "SetUserStatus", itself, who=MEMBER))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_a_user_is_made_once_for_one_request_id(service: Served) -> None:
    profile = user_pb2.User(email="grace@example.com", display_name="Grace Hopper")
    request = user_pb2.CreateUserRequest(user=profile, request_id=str(uuid.uuid4()))
    first = await call(service, "CreateUser", request)
    assert await call(service, "CreateUser", request) == first
    again = user_pb2.CreateUserRequest(user=profile, request_id=str(uuid.uuid4()))
    assert (await refusal(service, "CreateUser", again))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "EMAIL_TAKEN")


async def test_a_change_needs_the_present_etag(service: Served) -> None:
    read = await call(service, "GetUser", user_pb2.GetUserRequest(name=name_of(MEMBER)))
    wanted = user_pb2.User(name=read.name, job_title="Poet", etag=read.etag)
    changed = await call(service, "UpdateUser", user_pb2.UpdateUserRequest(user=wanted))
    assert changed.etag != read.etag
    wanted.job_title = "Painter"
    refused = await refusal(service, "UpdateUser", user_pb2.UpdateUserRequest(user=wanted))
    assert refused[:2] == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_user_is_suspended_deleted_and_brought_back(service: Served) -> None:
    name = name_of(MEMBER)
    for status in (user_pb2.USER_STATUS_ACTIVE, user_pb2.USER_STATUS_SUSPENDED):
        request = user_pb2.SetUserStatusRequest(name=name, status=status, reason="audit")
        assert (await call(service, "SetUserStatus", request)).status == status
    back = user_pb2.SetUserStatusRequest(name=name, status=user_pb2.USER_STATUS_INVITED, reason="audit")
    code, reason, _ = await refusal(service, "SetUserStatus", back)
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STATUS_TRANSITION_NOT_ALLOWED")
    deleted = await call(service, "DeleteUser", user_pb2.DeleteUserRequest(name=name))
    assert deleted.HasField("delete_time")
    assert not (await call(service, "SearchUsers", user_pb2.SearchUsersRequest(query="babbage"))).users
    undeleted = await call(service, "UndeleteUser", user_pb2.UndeleteUserRequest(name=name))
    assert (undeleted.status, undeleted.HasField("delete_time")) == (user_pb2.USER_STATUS_SUSPENDED, False)


async def test_a_batch_answers_what_it_can(service: Served) -> None:
    names = [name_of(MEMBER), "bob", name_of(ABSENT), name_of(ADMIN)]
    answer = await call(service, "BatchGetUsers", user_pb2.BatchGetUsersRequest(names=names))
    assert [user.display_name for user in answer.users] == ["Bob Babbage", "Ada Lovelace"]
    codes = {at: failure.code for at, failure in answer.failed_requests.items()}
    assert codes == {1: grpc.StatusCode.INVALID_ARGUMENT.value[0], 2: grpc.StatusCode.NOT_FOUND.value[0]}


async def test_a_list_goes_on_where_its_page_ended(service: Served) -> None:
    request = user_pb2.ListUsersRequest(page_size=1, order_by="display_name desc", filter='email = "*@example.com"')
    first = await call(service, "ListUsers", request)
    request.page_token = first.next_page_token
    second = await call(service, "ListUsers", request)
    assert [user.display_name for user in (*first.users, *second.users)] == ["Bob Babbage", "Ada Lovelace"]
    assert second.next_page_token == ""
    code, reason, _ = await refusal(service, "ListUsers", request, who=MEMBER)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_people_are_found_while_they_are_typed(service: Served) -> None:
    for query in ("lov", "lvoe", "ADA l", "ada@exa"):
        found = await call(service, "SearchUsers", user_pb2.SearchUsersRequest(query=query), who=MEMBER)
        assert [user.display_name for user in found.users] == ["Ada Lovelace"], query


async def test_who_does_not_want_to_be_found_is_not(service: Served) -> None:
    settings = user_pb2.Settings(name=f"{name_of(MEMBER)}/settings", discoverable=False)
    settings.session_idle_timeout.seconds = 600
    changed = await call(service, "UpdateSettings", user_pb2.UpdateSettingsRequest(settings=settings), who=MEMBER)
    assert (changed.discoverable, changed.presence_visible) == (False, True)
    read = await call(service, "GetSettings", user_pb2.GetSettingsRequest(name=settings.name), who=MEMBER)
    assert read == changed
    assert not (await call(service, "SearchUsers", user_pb2.SearchUsersRequest(query="bob"))).users


async def test_preferences_are_the_callers_own(service: Served) -> None:
    name = f"{name_of(MEMBER)}/preferences"
    wanted = user_pb2.Preferences(name=name, theme=user_pb2.Preferences.THEME_DARK, locale="de-AT")
    changed = await call(
        service, "UpdatePreferences", user_pb2.UpdatePreferencesRequest(preferences=wanted), who=MEMBER
    )
    assert (changed.theme, changed.density) == (wanted.theme, user_pb2.Preferences.DENSITY_COMFORTABLE)
    reset = user_pb2.UpdatePreferencesRequest(preferences=user_pb2.Preferences(name=name))
    reset.update_mask.paths.append("theme")
    changed = await call(service, "UpdatePreferences", reset, who=MEMBER)
    assert (changed.theme, changed.locale) == (user_pb2.Preferences.THEME_SYSTEM, "de-AT")


async def test_members_of_a_group_are_relationships(service: Served) -> None:
    engines = await call(service, "CreateGroup", user_pb2.CreateGroupRequest(group=user_pb2.Group(display_name="E")))
    poetry = await call(service, "CreateGroup", user_pb2.CreateGroupRequest(group=user_pb2.Group(display_name="P")))
    for member in (name_of(MEMBER), poetry.name):
        request = user_pb2.AddGroupMemberRequest(group=engines.name, member=member, request_id=str(uuid.uuid4()))
        for _ in range(2):
            added = await call(service, "AddGroupMember", request)
            assert (added.group, added.member) == (engines.name, member)
    engines_id, poetry_id = (group.name.removeprefix("groups/") for group in (engines, poetry))
    assert service.relationships.stored == [
        (f"group:{engines_id}", "member", f"user:{MEMBER}"),
        (f"group:{engines_id}", "member", f"group:{poetry_id}#member"),
    ]
    page = user_pb2.ListGroupMembersRequest(group=engines.name, page_size=1)
    first = await call(service, "ListGroupMembers", page, who=MEMBER)
    page.page_token = first.next_page_token
    second = await call(service, "ListGroupMembers", page, who=MEMBER)
    assert [each.member for each in (*first.members, *second.members)] == [name_of(MEMBER), poetry.name]
    assert service.relationships.tokens == {value for who in (ADMIN, MEMBER) for _, value in as_user(who)}
    await call(service, "DeleteGroup", user_pb2.DeleteGroupRequest(name=poetry.name))
    assert service.relationships.stored == [(f"group:{engines_id}", "member", f"user:{MEMBER}")]
    leave = user_pb2.RemoveGroupMemberRequest(group=engines.name, member=name_of(MEMBER))
    await call(service, "RemoveGroupMember", leave)
    assert service.relationships.stored == []


async def test_groups_are_changed_listed_and_deleted_once(service: Served) -> None:
    made = await call(service, "CreateGroup", user_pb2.CreateGroupRequest(group=user_pb2.Group(display_name="Maths")))
    wanted = user_pb2.Group(name=made.name, description="Numbers", etag=made.etag)
    changed = await call(service, "UpdateGroup", user_pb2.UpdateGroupRequest(group=wanted))
    assert (changed.display_name, changed.description) == ("Maths", "Numbers")
    assert await call(service, "GetGroup", user_pb2.GetGroupRequest(name=made.name), who=MEMBER) == changed
    listed = await call(service, "ListGroups", user_pb2.ListGroupsRequest(filter='display_name = "math*"'), who=MEMBER)
    assert list(listed.groups) == [changed]
    request = user_pb2.DeleteGroupRequest(name=made.name, request_id=str(uuid.uuid4()))
    await call(service, "DeleteGroup", request)
    await call(service, "DeleteGroup", request)
    again = user_pb2.DeleteGroupRequest(name=made.name)
    assert (await refusal(service, "DeleteGroup", again))[:2] == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND")


IN_ANOTHER_TENANT: list[tuple[str, Message]] = [
    ("GetUser", user_pb2.GetUserRequest(name=name_of(MEMBER))),
    ("UpdateUser", user_pb2.UpdateUserRequest(user=user_pb2.User(name=name_of(MEMBER), job_title="Mallory"))),
    ("DeleteUser", user_pb2.DeleteUserRequest(name=name_of(MEMBER))),
    ("UndeleteUser", user_pb2.UndeleteUserRequest(name=name_of(MEMBER))),
    (
        "SetUserStatus",
        user_pb2.SetUserStatusRequest(name=name_of(MEMBER), status=user_pb2.USER_STATUS_ACTIVE, reason="why"),
    ),
    ("GetMe", user_pb2.GetMeRequest()),
    ("GetPreferences", user_pb2.GetPreferencesRequest(name=f"{name_of(ADMIN)}/preferences")),
    ("GetSettings", user_pb2.GetSettingsRequest(name=f"{name_of(ADMIN)}/settings")),
]


async def test_another_tenant_reaches_nothing(service: Served) -> None:
    for method, request in IN_ANOTHER_TENANT:
        code, reason, _ = await refusal(service, method, request, tenant=OTHER_TENANT)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND"), method
    made = await call(service, "CreateGroup", user_pb2.CreateGroupRequest(group=user_pb2.Group(display_name="E")))
    for method, request in (
        ("GetGroup", user_pb2.GetGroupRequest(name=made.name)),
        ("UpdateGroup", user_pb2.UpdateGroupRequest(group=user_pb2.Group(name=made.name, description="x"))),
        ("DeleteGroup", user_pb2.DeleteGroupRequest(name=made.name)),
        ("AddGroupMember", user_pb2.AddGroupMemberRequest(group=made.name, member=name_of(MEMBER))),
        ("RemoveGroupMember", user_pb2.RemoveGroupMemberRequest(group=made.name, member=name_of(MEMBER))),
        ("ListGroupMembers", user_pb2.ListGroupMembersRequest(group=made.name)),
    ):
        code, reason, _ = await refusal(service, method, request, tenant=OTHER_TENANT)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND"), method
    assert not (await call(service, "ListUsers", user_pb2.ListUsersRequest(), tenant=OTHER_TENANT)).users
    assert not (await call(service, "ListGroups", user_pb2.ListGroupsRequest(), tenant=OTHER_TENANT)).groups
    assert not (await call(service, "SearchUsers", user_pb2.SearchUsersRequest(query="ada"), tenant=OTHER_TENANT)).users
    batch = user_pb2.BatchGetUsersRequest(names=[name_of(MEMBER)])
    assert not (await call(service, "BatchGetUsers", batch, tenant=OTHER_TENANT)).users
