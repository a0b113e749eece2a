"""A small tenant of the product: its resources, subjects, roles and links."""

import pytest

from pyairtable_mesh.runtime.authorization import product
from pyairtable_mesh.runtime.authorization.facts import Change, Relationship
from pyairtable_mesh.runtime.authorization.roles import RoleChange, ScopedChange

NOW = 100.0
TENANT, WORKSPACE, BASES = "tenant:t", "workspace:w", ["base:a", "base:b"]
TABLES, RECORDS = ["table:a", "table:b"], ["record:1", "record:2", "record:3"]
USERS, GROUPS = ["user:a", "user:b", "user:c"], ["group:g", "group:h"]
CHAIN = [WORKSPACE, "base:a", "table:a", "record:1"]
RESOURCES = [TENANT, WORKSPACE, *BASES, *TABLES, *RECORDS]
ROLES = {
    **product.system_roles(),
    "rol1": frozenset({"record.read", "base.read", "record.comment"}),
    "rol2": frozenset({"record.update", "table.read"}),
}
LINKS = [
    *(Relationship(base, "workspace", WORKSPACE) for base in BASES),
    Relationship("table:a", "base", "base:a"),
    Relationship("table:b", "base", "base:b"),
    *(Relationship(record, "table", "table:a") for record in RECORDS[:2]),
]
START: list[ScopedChange] = [*map(Change, LINKS), *(RoleChange(role, each) for role, each in ROLES.items())]
scope_modes = pytest.mark.parametrize(
    ("mode", "own", "above", "may_read", "may_delete"),
    [
        ("inherit", "", "editor", True, True),
        ("inherit", "viewer", "", True, False),
        ("restrict", "", "editor", False, False),
        ("restrict", "viewer", "editor", True, False),
        ("restrict", "editor", "viewer", True, False),
        ("restrict", "viewer", "owner", True, True),
        ("override", "", "editor", True, True),
        ("override", "viewer", "editor", True, False),
        ("override", "viewer", "owner", True, True),
    ],
)
"""What a role at a table and one above it come to in each scope mode."""
