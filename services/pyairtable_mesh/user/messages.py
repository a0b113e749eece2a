"""Between the protos of user.v1 and the domain's values. Nothing behind this module knows a proto."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.moments import to_timestamp
from pyairtable_mesh.user.domain import Group, Member, Membership, Preferences, Settings, Status, Stored, User

CHANGEABLE: Mapping[type[Stored], tuple[str, ...]] = {
    User: ("display_name", "given_name", "family_name", "job_title", "avatar_uri"),
    Preferences: (
        "locale",
        "time_zone",
        "theme",
        "density",
        "date_format",
        "time_format",
        "first_day_of_week",
        "reduced_motion",
    ),
    Settings: ("discoverable", "presence_visible", "session_idle_timeout"),
    Group: ("display_name", "description"),
}
"""The fields that an update may change, named alike in the proto and in the domain."""

_COLLECTIONS = {"user": "users", "group": "groups", "service_account": "serviceAccounts"}
_KINDS = {collection: kind for kind, collection in _COLLECTIONS.items()}


def id_of(name: str) -> str:
    """``usr…`` of ``users/usr…`` and of ``users/usr…/settings``; the schema has checked the shape."""
    return name.split("/")[1]


def from_user(user: User) -> user_pb2.User:
    """The message of a user."""
    return user_pb2.User(
        name=user.name,
        email=user.email,
        display_name=user.display_name,
        given_name=user.given_name,
        family_name=user.family_name,
        job_title=user.job_title,
        avatar_uri=user.avatar_uri,
        status=user_pb2.UserStatus.Value(f"USER_STATUS_{user.status}"),
        status_reason=user.status_reason,
        email_verified=user.email_verified,
        pending_email=user.pending_email,
        etag=user.etag,
        create_time=to_timestamp(user.create_time),
        update_time=to_timestamp(user.update_time),
        delete_time=_optional_timestamp(user.delete_time),
    )


def from_preferences(preferences: Preferences) -> user_pb2.Preferences:
    """The message of preferences."""
    message = user_pb2.Preferences(
        name=preferences.name,
        locale=preferences.locale,
        time_zone=preferences.time_zone,
        reduced_motion=preferences.reduced_motion,
        etag=preferences.etag,
        update_time=to_timestamp(preferences.update_time),
    )
    for field in message.DESCRIPTOR.fields:
        if field.enum_type is not None:
            setattr(message, field.name, _number(field.enum_type, getattr(preferences, field.name)))
    return message


def from_settings(settings: Settings) -> user_pb2.Settings:
    """The message of settings."""
    timeout = None
    if settings.session_idle_timeout is not None:
        timeout = Duration()
        timeout.FromTimedelta(settings.session_idle_timeout)
    return user_pb2.Settings(
        name=settings.name,
        discoverable=settings.discoverable,
        presence_visible=settings.presence_visible,
        session_idle_timeout=timeout,
        etag=settings.etag,
        update_time=to_timestamp(settings.update_time),
    )


def from_group(group: Group) -> user_pb2.Group:
    """The message of a group."""
    return user_pb2.Group(
        name=group.name,
        display_name=group.display_name,
        description=group.description,
        etag=group.etag,
        create_time=to_timestamp(group.create_time),
        update_time=to_timestamp(group.update_time),
    )


def from_stored(resource: Stored | Membership) -> Message:
    """The message of whatever is stored, here or as a relationship."""
    match resource:
        case User():
            return from_user(resource)
        case Preferences():
            return from_preferences(resource)
        case Settings():
            return from_settings(resource)
        case Group():
            return from_group(resource)
        case Membership(group_id, member):
            return from_member(f"groups/{group_id}", member)


def from_member(group: str, member: Member) -> user_pb2.GroupMember:
    """The message of a member of the group with this resource name."""
    return user_pb2.GroupMember(group=group, member=f"{_COLLECTIONS[member.kind]}/{member.id}")


def to_member(name: str) -> Member:
    """The member with this resource name; the schema has checked the shape."""
    collection, _, identifier = name.partition("/")
    return Member(_KINDS[collection], identifier)


def to_status(status: user_pb2.UserStatus.ValueType) -> Status:
    """The status of an enum value; the schema has refused UNSPECIFIED and unknown ones."""
    return Status(user_pb2.UserStatus.Name(status).removeprefix("USER_STATUS_"))


def changes(message: Message, kind: type[Stored], mask: FieldMask | None = None) -> dict[str, Any]:
    """What a message changes (AIP-134): the fields of the mask, all that can be with ``*``, those set without one.

    A field of the mask that is not set goes back to its default. InvalidArgument for a mask with other fields, and for
    a display name that would be empty.
    """
    changeable = CHANGEABLE[kind]
    paths = _paths(message, changeable, mask)
    defaults = {field.name: field.default for field in fields(kind)}
    found = {path: _value(message, message.DESCRIPTOR.fields_by_name[path], defaults[path]) for path in paths}
    if found.get("display_name") == "":
        raise InvalidArgument.of_field(f"{kind.__name__.lower()}.display_name", "must not be empty", rule="required")
    return found


def _paths(message: Message, changeable: Sequence[str], mask: FieldMask | None) -> Sequence[str]:
    paths = list(mask.paths) if mask is not None else []
    if unknown := set(paths) - {*changeable, "*"}:
        words = f"cannot change {', '.join(sorted(unknown))}"
        raise InvalidArgument.of_field("update_mask", words, rule="field_mask.in")
    if "*" in paths:
        return changeable
    is_set = {field.name for field, _ in message.ListFields()}
    return paths or [path for path in changeable if path in is_set]


def _value(message: Message, field: Any, default: Any) -> Any:
    value = getattr(message, field.name)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name.removeprefix(_prefix(field.enum_type)) if value else default
    if field.has_presence and not message.HasField(field.name):
        return default
    return value.ToTimedelta() if isinstance(value, Duration) else value


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def _number(enum: EnumDescriptor, name: str) -> int:
    if not name:
        return 0
    by_name = enum.values_by_name
    return (by_name.get(_prefix(enum) + name) or by_name[name]).number


def _optional_timestamp(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else to_timestamp(moment)
