"""The product's schema as data: resource types, their parents and verbs, who a subject may be, the system roles.

It stands in for the OpenFGA model that the engine will load (permission.md); nothing outside of this package may
depend on its shape. Only a release changes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TENANT = "tenant"
GROUP = "group"
MEMBER = "member"
READ = "read"
MANAGE_ACCESS = "manage_access"
MANAGE_GROUPS = "manage_groups"
DELETE = "delete"
OWNER, CREATOR, EDITOR, COMMENTER, VIEWER = "owner", "creator", "editor", "commenter", "viewer"
WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of the schema.

    `prefix` are the three letters that its ids begin with. `parent` is the type that it inherits from; the parent of
    a `linked` type is told by a relationship named like the parent's type, any other is directly under its tenant.
    """

    name: str
    prefix: str
    parent: str
    linked: bool
    verbs: frozenset[str]

    def permission(self, verb: str) -> str:
        """The permission ``<type>.<verb>``."""
        return f"{self.name}.{verb}"


def _type(name: str, prefix: str, parent: str = TENANT, *, linked: bool = False, verbs: str = "") -> ResourceType:
    common = (READ, "update", DELETE, MANAGE_ACCESS)
    return ResourceType(name, prefix, parent, linked, frozenset((*common, *verbs.split())))


TYPES: Mapping[str, ResourceType] = MappingProxyType(
    {
        each.name: each
        for each in (
            _type(
                TENANT,
                "ten",
                "",
                verbs="create_workspace create_file create_webhook manage_users manage_groups manage_service_accounts"
                " manage_settings read_audit",
            ),
            _type("workspace", "wsp", verbs="create_base"),
            _type("base", "app", "workspace", linked=True, verbs="create_table create_interface"),
            _type("table", "tbl", "base", linked=True, verbs="create_field create_view create_record"),
            _type("field", "fld", "table", linked=True, verbs="edit"),
            _type("view", "viw", "table", linked=True),
            _type("record", "rec", "table", linked=True, verbs="comment"),
            _type("interface", "pag", "base", linked=True),
            _type("file", "fil"),
            _type("webhook", "ach"),
            _type("user", "usr"),
            _type(GROUP, "grp"),
            _type("role", "rol"),
            _type("service_account", "svc"),
            _type("api_key", "key"),
            _type("share_link", "shr"),
        )
    }
)
"""Every type of the schema by its name."""

PRINCIPALS = frozenset({"user", "service_account", "api_key", "share_link"})
"""Types whose objects can be subjects by themselves."""

OWNED = frozenset({TENANT, "workspace"})
"""Types that never lose their last owner."""

LINKS = frozenset(each.parent for each in TYPES.values() if each.linked)
"""The relations that lead from a resource to its parent."""

PERMISSIONS = frozenset(each.permission(verb) for each in TYPES.values() for verb in each.verbs)
"""Every permission of the schema, ``type.verb``."""


def relations(resource_type: str) -> Mapping[str, frozenset[str]]:
    """The relations of a known type, each with the subjects it admits: types, or ``type#relation``."""
    described = TYPES[resource_type]
    if described.linked:
        return {described.parent: frozenset({described.parent})}
    if resource_type == GROUP:
        return {MEMBER: frozenset({"user", "service_account", f"{GROUP}#{MEMBER}"})}
    return {}


def descendants(resource_type: str) -> frozenset[str]:
    """A known type and all that inherit from it."""
    found = {resource_type}
    while more := {each.name for each in TYPES.values() if each.parent in found} - found:
        found |= more
    return frozenset(found)


def _permissions(rows: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{name}.{verb}" for name, verbs in rows.items() for verb in verbs.split())


_VIEWER = frozenset(each.permission(READ) for each in TYPES.values() if each.name not in {"api_key", "webhook"})
_COMMENTER = _VIEWER | {"record.comment"}
_EDITOR = _COMMENTER | _permissions(
    {"table": "create_record", "record": "update delete", "field": "edit", "tenant": "create_file", "file": "update"}
)
_CREATOR = _EDITOR | _permissions(
    {"tenant": "create_webhook create_workspace", "workspace": "create_base", "file": "delete"}
)
_CREATED = descendants("base") | {"webhook", "share_link"}

SYSTEM_ROLES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        VIEWER: _VIEWER,
        COMMENTER: _COMMENTER,
        EDITOR: _EDITOR,
        CREATOR: _CREATOR | {TYPES[name].permission(verb) for name in _CREATED for verb in TYPES[name].verbs},
        OWNER: PERMISSIONS,
    }
)
"""The permissions of each system role, from the least to the greatest; each has all of the one before."""
