"""The product's schema as the service asks it: types with their ids' prefixes, parents and verbs, and what a stored
relationship may be. The model itself and the system roles are the engine's (runtime/authorization/product).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyairtable_mesh.runtime.authorization import product

TENANT = "tenant"
GROUP = "group"
MEMBER = "member"
READ = "read"
MANAGE_ACCESS = "manage_access"
MANAGE_GROUPS = "manage_groups"
DELETE = "delete"
OWNER = product.OWNER
WILDCARD = "*"
PRINCIPALS = product.PRINCIPALS
OWNED = product.OWNED
_POLICY = product.policy()
_PREFIXES = {
    TENANT: "ten",
    "workspace": "wsp",
    "base": "app",
    "table": "tbl",
    "field": "fld",
    "view": "viw",
    "record": "rec",
    "interface": "pag",
    "file": "fil",
    "webhook": "ach",
    "user": "usr",
    GROUP: "grp",
    "role": "rol",
    "service_account": "svc",
    "api_key": "key",
    "share_link": "shr",
}


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


def _type(name: str) -> ResourceType:
    parent = _POLICY.parents.get(name, "")
    return ResourceType(name, _PREFIXES[name], parent, parent not in {"", TENANT}, frozenset(_POLICY.verbs[name]))


TYPES: Mapping[str, ResourceType] = MappingProxyType({name: _type(name) for name in _POLICY.verbs})
"""Every type of the schema by its name."""

LINKS = frozenset(each.parent for each in TYPES.values() if each.linked)
"""The relations that lead from a resource to its parent."""

PERMISSIONS = frozenset(_POLICY.permissions)
"""Every permission of the schema, ``type.verb``."""

SYSTEM_ROLES: Mapping[str, frozenset[str]] = MappingProxyType(product.system_roles())
"""The permissions of each system role, from the least to the greatest; each has all of the one before."""

CONDITIONS = frozenset(_POLICY.schema.conditions)
"""Under which a role can be bound."""


def relations(resource_type: str) -> Mapping[str, frozenset[str]]:
    """The relations of a known type, each with the subjects it admits: types, or ``type#relation``."""
    described = TYPES[resource_type]
    if described.linked:
        return {described.parent: frozenset({described.parent})}
    if resource_type == GROUP:
        return {MEMBER: frozenset({"user", "service_account", f"{GROUP}#{MEMBER}"})}
    return {}


def admits(resource_type: str, relation: str, kind: str, condition: str) -> bool:
    """Whether a relation of a known type admits a kind of subject, under a condition (empty: always)."""
    if not condition:
        return kind in relations(resource_type).get(relation, ())
    admitted = _POLICY.schema.types[resource_type].relations[relation].admitted
    return any((each.kind, each.condition) == (kind, condition) for each in admitted)


def descendants(resource_type: str) -> frozenset[str]:
    """A known type and all that inherit from it."""
    return _POLICY.below(resource_type)
