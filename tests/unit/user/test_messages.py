from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.user import messages
from pyairtable_mesh.user.domain import Group, Member, Preferences, Settings, Status, Stored, User
from tests.unit.user.people import EPOCH, kept_for, person, team

ADA = person(
    1,
    given_name="Ada",
    family_name="Lovelace",
    job_title="Poet",
    avatar_uri="https://example.com/ada.png",
    status=Status.SUSPENDED,
    status_reason="away",
    email_verified=True,
    pending_email="countess@example.com",
    delete_time=EPOCH,
)
PREFERENCES = Preferences(
    ADA.id, EPOCH, "de-AT", "Europe/Vienna", "DARK", "COMPACT", "ISO", "TWELVE_HOURS", "SUNDAY", reduced_motion=True
)
SETTINGS = Settings(ADA.id, EPOCH, presence_visible=False, session_idle_timeout=timedelta(hours=1))


@pytest.mark.parametrize("resource", [ADA, PREFERENCES, SETTINGS, team(1, description="Machines")])
def test_every_field_of_a_message_is_filled(resource: Stored) -> None:
    message = messages.from_stored(resource)
    assert {field.name for field, _ in message.ListFields()} == {field.name for field in message.DESCRIPTOR.fields}
    for field in message.DESCRIPTOR.fields:
        if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL}:
            assert getattr(message, field.name) == getattr(resource, field.name), field.name


def test_enumerations_and_durations_are_those_of_the_proto() -> None:
    assert messages.from_user(ADA).status == user_pb2.USER_STATUS_SUSPENDED
    message = messages.from_preferences(PREFERENCES)
    assert message.theme == user_pb2.Preferences.THEME_DARK
    assert message.time_format == user_pb2.Preferences.TIME_FORMAT_TWELVE_HOURS
    assert message.first_day_of_week == 7
    assert messages.from_preferences(kept_for(ADA)[0]).first_day_of_week == 0
    assert messages.from_settings(SETTINGS).session_idle_timeout.seconds == 3600


@pytest.mark.parametrize("resource", [ADA, PREFERENCES, SETTINGS, team(1)])
def test_all_that_can_be_changed_goes_there_and_back(resource: Stored) -> None:
    changes = messages.changes(messages.from_stored(resource), type(resource), FieldMask(paths=["*"]))
    assert set(changes) == set(messages.CHANGEABLE[type(resource)])
    assert replace(resource, **changes) == resource


@pytest.mark.parametrize(
    ("message", "kind", "paths", "changes"),
    [
        (user_pb2.User(job_title="Poet", email="x@example.com"), User, [], {"job_title": "Poet"}),
        (user_pb2.User(job_title="Poet"), User, ["job_title", "given_name"], {"job_title": "Poet", "given_name": ""}),
        (user_pb2.User(), User, [], {}),
        (user_pb2.Preferences(theme=user_pb2.Preferences.THEME_DARK), Preferences, [], {"theme": "DARK"}),
        (
            user_pb2.Preferences(),
            Preferences,
            ["theme", "first_day_of_week"],
            {"theme": "SYSTEM", "first_day_of_week": ""},
        ),
        (user_pb2.Preferences(reduced_motion=False), Preferences, [], {"reduced_motion": False}),
        (user_pb2.Settings(discoverable=False), Settings, [], {"discoverable": False}),
        (user_pb2.Settings(), Settings, ["discoverable"], {"discoverable": True}),
        (
            user_pb2.Settings(session_idle_timeout=Duration(seconds=300)),
            Settings,
            ["session_idle_timeout"],
            {"session_idle_timeout": timedelta(minutes=5)},
        ),
        (user_pb2.Settings(), Settings, ["session_idle_timeout"], {"session_idle_timeout": None}),
        (user_pb2.Group(display_name="A"), Group, ["*"], {"display_name": "A", "description": ""}),
    ],
)
def test_a_mask_says_what_changes(
    message: Message, kind: type[Stored], paths: list[str], changes: dict[str, Any]
) -> None:
    assert messages.changes(message, kind, FieldMask(paths=paths)) == changes


@pytest.mark.parametrize(
    ("message", "kind", "paths", "field"),
    [
        (user_pb2.User(), User, ["email"], "update_mask"),
        (user_pb2.User(), User, ["job_title", "job_title.first"], "update_mask"),
        (user_pb2.Settings(), Settings, ["session_idle_timeout.seconds"], "update_mask"),
        (user_pb2.User(), User, ["display_name"], "user.display_name"),
        (user_pb2.Group(description="x"), Group, ["*"], "group.display_name"),
    ],
)
def test_a_mask_that_cannot_be_followed_is_refused(
    message: Message, kind: type[Stored], paths: list[str], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        messages.changes(message, kind, FieldMask(paths=paths))
    assert refused.value.violations[0].field == field


@pytest.mark.parametrize(
    ("name", "member"),
    [
        (f"users/{ADA.id}", Member("user", ADA.id)),
        (team(1).name, Member("group", team(1).id)),
        ("serviceAccounts/svc1", Member("service_account", "svc1")),
    ],
)
def test_members_are_resource_names(name: str, member: Member) -> None:
    assert messages.to_member(name) == member
    assert messages.from_member("groups/grp1", member) == user_pb2.GroupMember(group="groups/grp1", member=name)


def test_every_status_of_the_proto_is_one_of_the_domain() -> None:
    values = [value for value in user_pb2.UserStatus.values() if value]
    assert [messages.to_status(value) for value in values] == list(Status)
