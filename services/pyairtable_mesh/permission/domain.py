"""What permissions are made from, and the rules that no change may break. No I/O, no clock."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Self

from pyairtable_mesh.permission import schema
from pyairtable_mesh.runtime.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    PreconditionViolation,
)

_ID = re.compile(r"([a-z]{3})[0-9a-hjkmnp-tv-z]{26}")
_ROLE_PREFIX = "roles/"
_BINDING_PREFIX = "roleBindings/"


class ScopeMode(Enum):
    """How a resource takes permissions from its parent (permission.md)."""

    INHERIT = "inherit"
    RESTRICT = "restrict"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Resource:
    """An object of the schema, ``type:id``."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"

    @classmethod
    def parse(cls, text: str, field: str = "resource") -> Self:
        """Read ``type:id``; `InvalidArgument` on `field` for an unknown type or an id of another shape."""
        kind, _, identifier = text.partition(":")
        described = _known_type(kind, field)
        match = _ID.fullmatch(identifier)
        if match is None or match[1] != described.prefix:
            words = f"the id of a {kind} is {described.prefix} and 26 characters of lower-case Crockford base32"
            raise InvalidArgument.of_field(field, words, reason="MALFORMED_REFERENCE")
        return cls(kind, identifier)

    def permission(self, verb: str, field: str = "permission") -> str:
        """The permission ``<type>.<verb>``; `InvalidArgument` on `field` when the type has no such verb."""
        described = schema.TYPES[self.type]
        if verb not in described.verbs:
            raise InvalidArgument.of_field(field, f"a {self.type} has no {verb!r}", reason="UNKNOWN_PERMISSION")
        return described.permission(verb)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who can hold something: ``type:id``, ``type:*`` for all of a type, ``group:id#member`` for a group's members."""

    type: str
    id: str
    relation: str = ""

    def __str__(self) -> str:
        return f"{self.type}:{self.id}#{self.relation}" if self.relation else f"{self.type}:{self.id}"

    @property
    def kind(self) -> str:
        """How relations name it: ``user``, ``user:*`` or ``group#member``."""
        if self.id == schema.WILDCARD:
            return f"{self.type}:{schema.WILDCARD}"
        return f"{self.type}#{self.relation}" if self.relation else self.type

    @property
    def is_principal(self) -> bool:
        """Whether it is one single actor, not a group and not everyone."""
        return self.type in schema.PRINCIPALS and self.id != schema.WILDCARD

    @classmethod
    def parse(cls, text: str, field: str = "subject") -> Self:
        """Read any form; `InvalidArgument` on `field` for one that the schema does not have."""
        object_text, _, relation = text.partition("#")
        kind, _, identifier = object_text.partition(":")
        if identifier == schema.WILDCARD and not relation:
            _known_type(kind, field)
            return cls(kind, identifier)
        resource = Resource.parse(object_text, field)
        if relation and relation not in schema.relations(kind):
            raise InvalidArgument.of_field(field, f"a {kind} has no {relation!r}", reason="UNKNOWN_RELATION")
        return cls(resource.type, resource.id, relation)


def _known_type(name: str, field: str) -> schema.ResourceType:
    described = schema.TYPES.get(name)
    if described is None:
        raise InvalidArgument.of_field(field, f"there is no type {name!r}", reason="UNKNOWN_TYPE")
    return described


@dataclass(frozen=True, slots=True)
class Relationship:
    """The subject stands in the relation to the resource, until `expire_time`, and where it has one under a condition
    with values as JSON.
    """

    resource: Resource
    relation: str
    subject: Subject
    expire_time: datetime | None = None
    condition: str = ""
    context: str = ""

    def __str__(self) -> str:
        return f"{self.resource}#{self.relation}@{self.subject}"

    @property
    def is_membership(self) -> bool:
        """Whether it puts somebody into a group; if not, it links a child to its parent."""
        return self.relation == schema.MEMBER

    @property
    def key(self) -> "Relationship":
        """The same without its expiry and condition: what can be stored only once."""
        return Relationship(self.resource, self.relation, self.subject)

    def validate(self, field: str, now: datetime | None = None) -> None:
        """`InvalidArgument` when the schema does not admit it or, where `now` is given, it has expired."""
        admitted = schema.relations(self.resource.type).get(self.relation)
        if admitted is None:
            words = f"a {self.resource.type} has no relation {self.relation!r}"
            raise InvalidArgument.of_field(f"{field}.relation", words, reason="UNKNOWN_RELATION")
        require_condition(self.condition, f"{field}.condition")
        if not schema.admits(self.resource.type, self.relation, self.subject.kind, self.condition):
            given = f", and no {self.subject.kind} with {self.condition}" if self.condition else ""
            words = f"{self.relation!r} of a {self.resource.type} admits {', '.join(sorted(admitted))}{given}"
            raise InvalidArgument.of_field(f"{field}.subject", words, reason="SUBJECT_NOT_ADMITTED")
        if self.expire_time is not None and not self.is_membership:
            words = "a link to a parent cannot expire"
            raise InvalidArgument.of_field(f"{field}.expire_time", words)
        if now is not None:
            require_future(self.expire_time, now, f"{field}.expire_time")


class Operation(Enum):
    """What an update does with its relationship."""

    CREATE = "create"
    TOUCH = "touch"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Update:
    """One change of a write."""

    operation: Operation
    relationship: Relationship


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects relationships by exact values; an empty one matches everything."""

    resource_type: str = ""
    resource: str = ""
    relation: str = ""
    subject_type: str = ""
    subject: str = ""

    def matches(self, each: Relationship) -> bool:
        """Whether it selects a relationship."""
        return self.selects(str(each.resource), each.relation, str(each.subject))

    def selects(self, resource: str, relation: str, subject: str) -> bool:
        """The same, in text form."""
        exact = ((self.resource, resource), (self.relation, relation), (self.subject, subject))
        types = ((self.resource_type, resource), (self.subject_type, subject))
        return all(wanted in {"", found} for wanted, found in exact) and all(
            wanted in {"", found.partition(":")[0]} for wanted, found in types
        )


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must be true for a write: that something matches, or that nothing does."""

    filter: Filter
    must_match: bool


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of permissions; `id` is ``owner`` and its like for a system role, else ``rol…``."""

    id: str
    display_name: str
    permissions: frozenset[str]
    description: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None
    creator: str = ""
    revision: int = 0

    @property
    def name(self) -> str:
        """The resource name, ``roles/…``."""
        return role_name(self.id)

    @property
    def etag(self) -> str:
        """Changes whenever the role does."""
        return f"{self.revision:x}"

    @property
    def is_system(self) -> bool:
        """Whether it comes with the product."""
        return self.id in schema.SYSTEM_ROLES

    def validate(self) -> None:
        """`InvalidArgument` for permissions that the schema does not have, or none."""
        if not self.permissions:
            raise InvalidArgument.of_field("role.permissions", "must have at least one permission")
        if unknown := sorted(self.permissions - schema.PERMISSIONS):
            words = f"there is no permission {unknown[0]!r}"
            raise InvalidArgument.of_field("role.permissions", words, reason="UNKNOWN_PERMISSION")
        if not self.display_name.strip():
            raise InvalidArgument.of_field("role.display_name", "must not be blank")
        if self.display_name.casefold() in schema.SYSTEM_ROLES:
            words = "is the name of a system role"
            raise InvalidArgument.of_field("role.display_name", words)

    def require_custom(self) -> None:
        """`FailedPrecondition` for a system role."""
        if self.is_system:
            violation = PreconditionViolation("SYSTEM_ROLE", self.name, "system roles come with the product")
            words = f"{self.name} is a system role and cannot be changed"
            raise FailedPrecondition(words, [violation], reason="SYSTEM_ROLE", metadata={"role": self.name})


def system_role(role_id: str) -> Role:
    """The system role of that id, which must exist."""
    return Role(role_id, role_id.capitalize(), schema.SYSTEM_ROLES[role_id])


def role_name(role_id: str) -> str:
    """The resource name of a role's id."""
    return _ROLE_PREFIX + role_id


def role_id(name: str) -> str:
    """The id in ``roles/…``."""
    return name.removeprefix(_ROLE_PREFIX)


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """A role that a subject has at a resource and below, until `expire_time`, and where it has one under a condition
    with values as JSON. What can be bound only once is the role, to a subject at a resource: the condition is no part
    of that.
    """

    id: str
    role: str
    resource: Resource
    subject: Subject
    creator: str
    create_time: datetime
    expire_time: datetime | None = None
    revision: int = 0
    condition: str = ""
    context: str = ""

    @property
    def name(self) -> str:
        """The resource name, ``roleBindings/rbn…``."""
        return binding_name(self.id)

    @property
    def etag(self) -> str:
        """Changes whenever the binding does."""
        return f"{self.revision:x}"

    @property
    def keeps_ownership(self) -> bool:
        """Whether it alone is enough for its resource to have an owner: one actor, for good and whatever happens."""
        owned = self.role == schema.OWNER and self.resource.type in schema.OWNED
        return owned and self.subject.is_principal and self.expire_time is None and not self.condition


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The scope mode of a resource."""

    resource: Resource
    mode: ScopeMode


@dataclass(frozen=True, slots=True)
class SpaceRelationship:
    """A relationship of a model that a tenant brings: `condition` with its values as JSON, where it has one."""

    resource: str
    relation: str
    subject: str
    condition: str = ""
    context: str = ""
    expire_time: datetime | None = None

    def __str__(self) -> str:
        return f"{self.resource}#{self.relation}@{self.subject}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What can be stored only once."""
        return self.resource, self.relation, self.subject


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of a space's schema; `source` is left out where only its name is of interest."""

    id: str
    space: str
    create_time: datetime | None = None
    creator: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """The resource name, ``schemas/…``."""
        return f"schemas/{self.id}"


@dataclass(frozen=True, slots=True)
class ModelSpace:
    """A schema with relationships and revisions of its own; `schema` is the id of the current version, if any."""

    id: str
    display_name: str
    schema: str = ""
    revision: int = 0
    create_time: datetime | None = None
    creator: str = ""

    @property
    def name(self) -> str:
        """The resource name, ``modelSpaces/…``."""
        return f"modelSpaces/{self.id}"


Fact = Relationship | RoleBinding | Role | Inheritance | SpaceRelationship | SchemaVersion
"""What permissions are made from."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A fact that was stored (`kept`) or removed, and what was in its place `before`."""

    what: Fact
    kept: bool = True
    before: Fact | None = None

    @property
    def undone(self) -> "Changed":
        """The change that takes this one back."""
        if self.before is None:
            return Changed(self.what, kept=False, before=self.what)
        return Changed(self.before, before=self.what if self.kept else None)


@dataclass(frozen=True, slots=True)
class Revision:
    """The changes of one revision, in their order, and when they were made."""

    number: int
    time: datetime
    changes: Sequence[Changed]


def binding_name(binding_id: str) -> str:
    """The resource name of a binding's id."""
    return _BINDING_PREFIX + binding_id


def binding_id(name: str) -> str:
    """The id in ``roleBindings/…``."""
    return name.removeprefix(_BINDING_PREFIX)


def require_bindable(subject: Subject, field: str = "subject") -> None:
    """`InvalidArgument` for a subject that no role can be bound to."""
    if not (subject.is_principal or subject.kind in {f"{schema.GROUP}#{schema.MEMBER}", "user:*"}):
        words = "a role is bound to a user, service account, API key, share link, to group:…#member or to user:*"
        raise InvalidArgument.of_field(field, words, reason="SUBJECT_NOT_ADMITTED")


def require_condition(name: str, field: str) -> None:
    """`InvalidArgument` for a condition that the schema does not have; none is one that it has."""
    if name and name not in schema.CONDITIONS:
        words = f"there is no condition {name!r}: there is {', '.join(sorted(schema.CONDITIONS))}"
        raise InvalidArgument.of_field(field, words, reason="UNKNOWN_CONDITION")


def require_future(time: datetime | None, now: datetime, field: str) -> None:
    """`InvalidArgument` for a time that has passed."""
    if time is not None and time <= now:
        raise InvalidArgument.of_field(field, "must lie in the future", reason="TIME_IN_PAST")


def require_etag(sent: str, stored: str, name: str) -> None:
    """`Aborted` when the caller has seen another state than the stored one; an empty etag matches any."""
    if sent and sent != stored:
        raise Aborted(f"{name} has changed since it was read", reason="ETAG_MISMATCH", metadata={"resource": name})


def exceeding(role: Collection[str], held: Collection[str], resource: Resource) -> list[str]:
    """What a role would give at `resource` that its giver does not have there, in order.

    Permissions of types that cannot be found at or below the resource give nothing and do not count.
    """
    below = schema.descendants(resource.type)
    return sorted({permission for permission in role if permission.partition(".")[0] in below}.difference(held))


def require_other_owner(leaving: RoleBinding, at_resource: Sequence[RoleBinding]) -> None:
    """`FailedPrecondition` when, of the bindings at its resource, only `leaving` keeps the resource owned."""
    if not leaving.keeps_ownership or any(each.keeps_ownership for each in at_resource if each.id != leaving.id):
        return
    resource = str(leaving.resource)
    violation = PreconditionViolation("LAST_OWNER", resource, f"{leaving.subject} is the last owner")
    words = f"{leaving.subject} is the last owner of {resource}; make somebody else owner first"
    raise FailedPrecondition(words, [violation], reason="LAST_OWNER", metadata={"resource": resource})


def smallest_role(permission: str) -> str:
    """The name of the least system role that has a permission."""
    sizes = [(len(held), name) for name, held in schema.SYSTEM_ROLES.items() if permission in held]
    return role_name(min(sizes)[1])
