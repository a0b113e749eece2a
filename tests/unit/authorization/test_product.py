"""The product's model and roles as they were promised: a release that changes one of these lines says so."""

from itertools import pairwise

import pytest

from pyairtable_mesh.runtime.authorization import product

PARENTS = {
    "workspace": "tenant",
    "base": "workspace",
    "table": "base",
    "interface": "base",
    "field": "table",
    "view": "table",
    "record": "table",
    **dict.fromkeys(("file", "webhook", "user", "group", "role", "service_account", "api_key", "share_link"), "tenant"),
}
COMMON = {"read", "update", "delete", "manage_access"}
MORE = {
    "tenant": "create_workspace create_file create_webhook manage_users manage_groups manage_service_accounts"
    " manage_settings read_audit",
    "workspace": "create_base",
    "base": "create_table create_interface",
    "table": "create_field create_view create_record",
    "field": "edit",
    "record": "comment",
}
BELOW_A_BASE = {"base", "table", "field", "view", "record", "interface"}


def verbs(name: str) -> set[str]:
    return COMMON | set(MORE.get(name, "").split())


def everything(*names: str) -> set[str]:
    return {f"{name}.{verb}" for name in names for verb in verbs(name)}


READABLE = {f"{name}.read" for name in (*PARENTS, "tenant") if name not in {"api_key", "webhook"}}
EDITED = {"table.create_record", "record.update", "record.delete", "field.edit", "tenant.create_file", "file.update"}
CREATED = {"tenant.create_webhook", "tenant.create_workspace", "workspace.create_base", "file.delete"}
ROLES = {
    "viewer": READABLE,
    "commenter": READABLE | {"record.comment"},
    "editor": READABLE | {"record.comment"} | EDITED,
    "creator": READABLE | EDITED | CREATED | everything(*BELOW_A_BASE, "webhook", "share_link"),
    "owner": everything(*PARENTS, "tenant"),
}


def test_every_type_has_its_parent_and_verbs() -> None:
    policy = product.policy()
    assert policy.parents == PARENTS
    assert {name: set(held) for name, held in policy.verbs.items()} == {
        name: verbs(name) for name in (*PARENTS, "tenant")
    }
    assert policy.below("base") == BELOW_A_BASE


@pytest.mark.parametrize("role", ROLES)
def test_a_system_role_has_what_was_promised(role: str) -> None:
    assert product.system_roles()[role] == ROLES[role]


def test_roles_go_from_the_least_to_the_greatest() -> None:
    held = list(product.system_roles().values())
    assert list(product.system_roles()) == list(ROLES)
    assert all(less < more for less, more in pairwise(held))
