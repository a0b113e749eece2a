"""The rules about users and groups: no I/O, no clock, no protos.

Everything is a value; a change gives a new one. Enumerations that this service only keeps for others (a theme, a date
format) are their proto names without the prefix; the status, which has rules, is an enumeration of its own.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pyairtable_mesh.runtime.errors import Aborted, FailedPrecondition, PreconditionViolation

_ETAG_BYTES = 15
_KEY_LENGTH = 200

T = TypeVar("T")
Key = tuple[str | int, ...]
"""The sort key of a list's row: what a page is behind."""


class Status(StrEnum):
    """Where a user stands in the tenant."""

    INVITED = "INVITED"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    DEACTIVATED = "DEACTIVATED"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.INVITED: frozenset({Status.ACTIVE, Status.DEACTIVATED}),
    Status.ACTIVE: frozenset({Status.SUSPENDED, Status.DEACTIVATED}),
    Status.SUSPENDED: frozenset({Status.ACTIVE, Status.DEACTIVATED}),
    Status.DEACTIVATED: frozenset({Status.ACTIVE}),
}


def _etag(value: Any) -> str:
    digest = hashlib.sha256(repr(astuple(value)).encode()).digest()[:_ETAG_BYTES]
    return f'"{base64.urlsafe_b64encode(digest).decode()}"'


@dataclass(frozen=True, slots=True)
class User:
    """A person's membership in one tenant; `delete_time` is set while it is soft-deleted."""

    id: str
    email: str
    display_name: str
    create_time: datetime
    update_time: datetime
    given_name: str = ""
    family_name: str = ""
    job_title: str = ""
    avatar_uri: str = ""
    status: Status = Status.INVITED
    status_reason: str = ""
    email_verified: bool = False
    pending_email: str = ""
    delete_time: datetime | None = None

    @property
    def name(self) -> str:
        """``users/usr…``."""
        return f"users/{self.id}"

    @property
    def etag(self) -> str:
        """An entity tag (RFC 9110, section 8.8.3) that changes with every field."""
        return _etag(self)

    def moved(self, status: Status, reason: str, now: datetime) -> "User":
        """The user in another status; FailedPrecondition STATUS_TRANSITION_NOT_ALLOWED where there is no such move."""
        allowed = TRANSITIONS[self.status]
        if status not in allowed:
            words = f"a user who is {self.status.lower()} cannot become {status.lower()}"
            raise FailedPrecondition(
                words,
                [PreconditionViolation("STATUS_TRANSITION", self.name, words)],
                reason="STATUS_TRANSITION_NOT_ALLOWED",
                metadata={"from": self.status, "to": status, "allowed": ",".join(sorted(allowed))},
            )
        return replace(self, status=status, status_reason=reason, update_time=now)

    def deleted(self, now: datetime) -> "User":
        """The user, soft-deleted."""
        return replace(self, delete_time=now, update_time=now)

    def undeleted(self, now: datetime) -> "User":
        """The user, back again."""
        return replace(self, delete_time=None, update_time=now)


@dataclass(frozen=True, slots=True)
class Preferences:
    """How the product looks and behaves for a user; empty texts leave it to the device or the locale."""

    user_id: str
    update_time: datetime
    locale: str = ""
    time_zone: str = ""
    theme: str = "SYSTEM"
    density: str = "COMFORTABLE"
    date_format: str = "LOCAL"
    time_format: str = "LOCAL"
    first_day_of_week: str = ""
    reduced_motion: bool = False

    @property
    def name(self) -> str:
        """``users/usr…/preferences``."""
        return f"users/{self.user_id}/preferences"

    @property
    def etag(self) -> str:
        """An entity tag (RFC 9110, section 8.8.3) that changes with every field."""
        return _etag(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """A user's privacy and security settings; without `session_idle_timeout` the tenant's holds."""

    user_id: str
    update_time: datetime
    discoverable: bool = True
    presence_visible: bool = True
    session_idle_timeout: timedelta | None = None

    @property
    def name(self) -> str:
        """``users/usr…/settings``."""
        return f"users/{self.user_id}/settings"

    @property
    def etag(self) -> str:
        """An entity tag (RFC 9110, section 8.8.3) that changes with every field."""
        return _etag(self)


@dataclass(frozen=True, slots=True)
class Group:
    """Users who are given permissions together; who is in it, the permission service knows."""

    id: str
    display_name: str
    create_time: datetime
    update_time: datetime
    description: str = ""

    @property
    def name(self) -> str:
        """``groups/grp…``."""
        return f"groups/{self.id}"

    @property
    def etag(self) -> str:
        """An entity tag (RFC 9110, section 8.8.3) that changes with every field."""
        return _etag(self)


Stored = User | Preferences | Settings | Group
StoredT = TypeVar("StoredT", User, Preferences, Settings, Group)


@dataclass(frozen=True, slots=True)
class Member:
    """A direct member of a group: a user, the members of another group, a service account.

    `kind` is the type that the permission service knows it by: ``user``, ``group``, ``service_account``.
    """

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Membership:
    """That a group has a direct member."""

    group_id: str
    member: Member


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """Part of a list; `last` is the sort key of its last row when more follow, else None."""

    items: Sequence[T]
    last: Key | None = None


def normal_email(email: str) -> str:
    """The form that addresses are kept and compared in: lower case. The schema has made sure that it is ASCII."""
    return email.lower()


def folded(text: str) -> str:
    """What texts are compared and sorted by: without case, accents and compatibility forms (UAX 15, NFKD)."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", bare.casefold())


def display_key(resource: User | Group) -> str:
    """What a user or group is sorted by and found under; bounded, because folding can make a text longer."""
    return folded(resource.display_name)[:_KEY_LENGTH]


def changed(resource: StoredT, changes: Mapping[str, Any], now: datetime) -> StoredT:
    """The resource with the fields of an update mask at their new values; itself, when they have them already."""
    after = replace(resource, **changes)
    return resource if after == resource else replace(after, update_time=now)


def check_etag(resource: Stored, etag: str) -> None:
    """Refuse a change that was decided on an older state (AIP-154): Aborted ETAG_MISMATCH. An empty etag is none."""
    if etag and etag != resource.etag:
        raise Aborted(
            f"{resource.name} has changed since it was read: read it again, then decide",
            reason="ETAG_MISMATCH",
            metadata={"name": resource.name, "etag": resource.etag},
        )
