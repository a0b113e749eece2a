"""Whatever changes users and groups is done once for one request id."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import delete

from pyairtable.user.v1 import user_pb2 as pb
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.tables import IDEMPOTENCY
from pyairtable_mesh.user import app
from tests.contract import repeating
from tests.contract.permission.serving import Metadata
from tests.contract.repeating import Repeated, State
from tests.contract.user.serving import ADMIN, MEMBER, OTHER_TENANT, Served, as_user, served

ADMINISTRATOR, HERSELF = as_user(ADMIN), as_user(MEMBER)
NAME = f"users/{MEMBER}"


@dataclass(frozen=True)
class Place:
    """A tenant with a user and a group."""

    service: Served
    database: Database
    group: pb.Group

    async def ask(self, request: Message, metadata: Metadata = ADMINISTRATOR) -> Any:
        return await repeating.ask(self.service.stub, request, metadata)

    async def seen(self) -> State:
        memberships = sorted(map(repr, self.service.relationships.stored))
        return {**await repeating.stored(self.database), "memberships": memberships}

    def repeated(self, request: Message, *then: Message, metadata: Metadata = ADMINISTRATOR, **other: Any) -> Repeated:
        """What is asked more than once, with what is asked in between."""

        async def move(_answer: Any) -> None:
            for each in then:
                await self.ask(each, metadata)

        return Repeated(request, other, metadata, move)

    def made(self, request: Message, deletion: type[Message], **other: Any) -> Repeated:
        """The same of a resource that is made, and deleted in between."""

        async def delete_it(answer: Any) -> None:
            await self.ask(deletion(name=answer.name))

        return Repeated(request, other, ADMINISTRATOR, delete_it)


@pytest.fixture
async def place(database: Database) -> AsyncIterator[Place]:
    async with served(database) as service:
        for user in (ADMIN, MEMBER):
            profile = pb.User(email=f"{user}@example.com")
            await service.stub.CreateUser(pb.CreateUserRequest(user=profile, user_id=user), metadata=as_user())
        group = pb.CreateGroupRequest(group=pb.Group(display_name="Engines"))
        yield Place(service, database, await service.stub.CreateGroup(group, metadata=as_user()))


def _update_user(**fields: Any) -> pb.UpdateUserRequest:
    return pb.UpdateUserRequest(user=pb.User(name=NAME, **fields))


def _status(status: pb.UserStatus.ValueType) -> pb.SetUserStatusRequest:
    return pb.SetUserStatusRequest(name=NAME, status=status, reason="audit")


async def _create_user(place: Place) -> Repeated:
    request = pb.CreateUserRequest(user=pb.User(email="grace@example.com"))
    return place.made(request, pb.DeleteUserRequest, user=pb.User(job_title="Poet"))


async def _update(place: Place) -> Repeated:
    return place.repeated(_update_user(job_title="Poet"), _update_user(job_title="Clerk"), user=pb.User(given_name="A"))


async def _update_nothing(place: Place) -> Repeated:
    await place.ask(_update_user(job_title="Poet"))
    return await _update(place)


async def _delete_user(place: Place) -> Repeated:
    return place.repeated(pb.DeleteUserRequest(name=NAME), pb.UndeleteUserRequest(name=NAME), etag="other")


async def _undelete_user(place: Place) -> Repeated:
    await place.ask(pb.DeleteUserRequest(name=NAME))
    return place.repeated(pb.UndeleteUserRequest(name=NAME), pb.DeleteUserRequest(name=NAME), etag="other")


async def _update_preferences(place: Place) -> Repeated:
    first, second = [
        pb.UpdatePreferencesRequest(preferences=pb.Preferences(name=f"{NAME}/preferences", locale=locale))
        for locale in ("de-AT", "fr-FR")
    ]
    return place.repeated(first, second, metadata=HERSELF, preferences=pb.Preferences(locale="en-GB"))


async def _update_settings(place: Place) -> Repeated:
    first, second = [
        pb.UpdateSettingsRequest(
            settings=pb.Settings(name=f"{NAME}/settings", session_idle_timeout={"seconds": seconds})
        )
        for seconds in (600, 1200)
    ]
    return place.repeated(first, second, metadata=HERSELF, settings={"session_idle_timeout": {"seconds": 900}})


async def _set_status(place: Place) -> Repeated:
    suspended = _status(pb.USER_STATUS_SUSPENDED)
    return place.repeated(_status(pb.USER_STATUS_ACTIVE), suspended, reason="another")


async def _create_group(place: Place) -> Repeated:
    request = pb.CreateGroupRequest(group=pb.Group(display_name="Poetry"))
    return place.made(request, pb.DeleteGroupRequest, group=pb.Group(description="Words"))


async def _update_group(place: Place) -> Repeated:
    name = place.group.name
    request = pb.UpdateGroupRequest(group=pb.Group(name=name, description="Steam"))
    return place.repeated(request, pb.DeleteGroupRequest(name=name), group=pb.Group(display_name="E"))


async def _delete_group(place: Place) -> Repeated:
    return place.repeated(pb.DeleteGroupRequest(name=place.group.name), etag=place.group.etag)


def _joining(place: Place) -> tuple[pb.AddGroupMemberRequest, pb.RemoveGroupMemberRequest]:
    names = {"group": place.group.name, "member": NAME}
    return pb.AddGroupMemberRequest(**names), pb.RemoveGroupMemberRequest(**names)


async def _add_member(place: Place) -> Repeated:
    joining, leaving = _joining(place)
    return place.repeated(joining, leaving, member=f"users/{ADMIN}")


async def _add_member_of_a_group_that_goes(place: Place) -> Repeated:
    joining, _ = _joining(place)
    return place.repeated(joining, pb.DeleteGroupRequest(name=joining.group), member=f"users/{ADMIN}")


async def _remove_member(place: Place) -> Repeated:
    joining, leaving = _joining(place)
    await place.ask(joining)
    return place.repeated(leaving, joining, member=f"users/{ADMIN}")


async def _remove_member_of_a_group_that_goes(place: Place) -> Repeated:
    joining, leaving = _joining(place)
    await place.ask(joining)
    return place.repeated(leaving, pb.DeleteGroupRequest(name=joining.group), member=f"users/{ADMIN}")


EXAMPLES: dict[str, Callable[[Place], Awaitable[Repeated]]] = {
    "CreateUser": _create_user,
    "UpdateUser": _update,
    "UpdateUser, to what it is": _update_nothing,
    "DeleteUser": _delete_user,
    "UndeleteUser": _undelete_user,
    "UpdatePreferences": _update_preferences,
    "UpdateSettings": _update_settings,
    "SetUserStatus": _set_status,
    "CreateGroup": _create_group,
    "UpdateGroup": _update_group,
    "DeleteGroup": _delete_group,
    "AddGroupMember": _add_member,
    "AddGroupMember, whose group goes": _add_member_of_a_group_that_goes,
    "RemoveGroupMember": _remove_member,
    "RemoveGroupMember, whose group goes": _remove_member_of_a_group_that_goes,
}


def test_each_rpc_with_a_request_id_has_an_example() -> None:
    assert repeating.exampled(EXAMPLES) == repeating.identified(app.service)


@repeating.on_sqlite
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
async def test_a_repetition_gets_the_first_answer_and_changes_nothing(
    place: Place, example: Callable[[Place], Awaitable[Repeated]]
) -> None:
    await repeating.require_idempotent(place.service.stub, await example(place), place.seen)


@repeating.on_sqlite
async def test_a_request_is_its_callers_its_tenants_and_its_methods(place: Place) -> None:
    same = str(uuid.uuid4())
    for who in (ADMIN, MEMBER):
        request = pb.UpdateUserRequest(user=pb.User(name=f"users/{who}", job_title="Poet"), request_id=same)
        assert (await place.ask(request, as_user(who))).name == f"users/{who}"
    group = pb.CreateGroupRequest(group=pb.Group(display_name="Poetry"), request_id=same)
    here, there = [await place.ask(group, each) for each in (as_user(), as_user(tenant=OTHER_TENANT))]
    assert here.name != there.name
    for request, members in zip(_joining(place), (1, 0), strict=True):
        request.request_id = same
        await place.ask(request)
        assert len(place.service.relationships.stored) == members


@repeating.on_sqlite
async def test_a_repetition_whose_answer_was_not_kept_asks_its_peer_under_the_same_id(place: Place) -> None:
    repeated = await _add_member(place)
    await repeated.ask(place.service.stub)
    async with place.database.transaction(background()) as transaction:
        await transaction.connection.execute(delete(IDEMPOTENCY))
    await repeated.ask(place.service.stub)
    assert len(place.service.relationships.written) == 1
