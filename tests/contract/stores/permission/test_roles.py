"""Roles and bindings: a partial order of power, and owners that never run out."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages, schema
from pyairtable_mesh.permission.domain import Operation, ScopeMode
from pyairtable_mesh.permission.usecases.consistency import NEAREST
from pyairtable_mesh.permission.usecases.roles import RolePatch, Wanted
from pyairtable_mesh.runtime.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
)
from tests.contract.stores.permission.conftest import TENANT_SERVICE, Permissions, caller, member
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, WORKSPACE, members, ref


def test_each_system_role_has_all_of_the_one_before() -> None:
    roles = list(schema.SYSTEM_ROLES.values())
    assert all(less < more for less, more in itertools.pairwise(roles))
    assert roles[-1] == schema.PERMISSIONS


@pytest.mark.parametrize(
    ("held", "at", "role", "resource", "error"),
    [
        ("owner", TENANT, "owner", BASE, None),
        ("creator", WORKSPACE, "editor", BASE, None),
        ("creator", WORKSPACE, "creator", BASE, None),
        ("creator", WORKSPACE, "owner", BASE, None),
        ("creator", WORKSPACE, "viewer", WORKSPACE, PermissionDenied),
        ("editor", BASE, "viewer", BASE, PermissionDenied),
        ("creator", BASE, "viewer", WORKSPACE, NotFound),
        ("", BASE, "viewer", BASE, NotFound),
    ],
)
async def test_who_may_bind(
    permissions: Permissions, held: str, at: str, role: str, resource: str, error: type[MeshError] | None
) -> None:
    if held:
        await permissions.grant(ALICE, held, at, BOB)
    if error is None:
        await permissions.grant(BOB, role, resource, CAROL)
    else:
        with pytest.raises(error):
            await permissions.grant(BOB, role, resource, CAROL)


async def test_nobody_gives_what_it_does_not_have(permissions: Permissions) -> None:
    sharer = await permissions.define_role("Sharer", "base.read", "base.manage_access", "table.read")
    await permissions.grant(ALICE, sharer, BASE, BOB)
    await permissions.grant(BOB, sharer, BASE, CAROL)
    with pytest.raises(PermissionDenied) as caught:
        await permissions.grant(BOB, "viewer", BASE, CAROL)
    assert caught.value.reason == "GRANT_EXCEEDS_OWN"
    assert caught.value.metadata["permission"] == "field.read"
    binding = await permissions.grant(ALICE, "editor", BASE, members())
    with pytest.raises(PermissionDenied):
        await permissions.revoke(BOB, binding.role_binding.name)


async def test_a_binding_inherits_down_and_ends_with_its_time(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "editor", WORKSPACE, BOB, permissions.clock.now + timedelta(days=1))
    assert await permissions.may(BOB, "create_record", TABLE)
    permissions.clock.forward(timedelta(days=1))
    assert not await permissions.may(BOB, "create_record", TABLE)
    await permissions.grant(ALICE, "editor", WORKSPACE, BOB)
    assert await permissions.may(BOB, "create_record", TABLE)


async def test_a_role_is_bound_once(permissions: Permissions) -> None:
    first = await permissions.grant(ALICE, "viewer", BASE, "user:*")
    with pytest.raises(AlreadyExists) as caught:
        await permissions.grant(ALICE, "viewer", BASE, "user:*")
    assert caught.value.metadata["name"] == first.role_binding.name
    assert await permissions.may(CAROL, "read", BASE)


async def test_a_grant_in_the_past_or_to_no_actor_is_refused(permissions: Permissions) -> None:
    with pytest.raises(InvalidArgument):
        await permissions.grant(ALICE, "viewer", BASE, BOB, permissions.clock.now)
    with pytest.raises(InvalidArgument):
        await permissions.grant(ALICE, "viewer", BASE, WORKSPACE)
    with pytest.raises(NotFound):
        await permissions.grant(ALICE, "rol" + "0" * 26, BASE, BOB)


async def test_the_tenant_service_binds_the_first_owner_and_nothing_else(permissions: Permissions) -> None:
    new = ref("tenant", 2)
    for role, subject, until in (
        ("viewer", BOB, None),
        ("owner", members(), None),
        ("owner", BOB, permissions.clock.now + timedelta(days=1)),
    ):
        with pytest.raises(PermissionDenied):
            await permissions.grant(TENANT_SERVICE, role, new, subject, until)
    with pytest.raises(PermissionDenied):
        await permissions.grant(TENANT_SERVICE, "owner", BASE, BOB)
    await permissions.grant(TENANT_SERVICE, "owner", new, BOB)
    with pytest.raises(PermissionDenied):
        await permissions.grant(TENANT_SERVICE, "owner", new, CAROL)
    assert await permissions.may(BOB, "delete", new, new.removeprefix("tenant:"))
    assert not await permissions.may(BOB, "read", TENANT)


async def owners(permissions: Permissions, at: str) -> dict[str, str]:
    found, _ = await permissions.roles.bindings(caller(ALICE), Wanted(at, "", "owner"), NEAREST, 10, "")
    return {str(each.subject): each.name for each in found}


async def test_the_last_owner_cannot_leave(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "owner", TENANT, members())
    await permissions.grant(ALICE, "owner", TENANT, CAROL, permissions.clock.now + timedelta(days=1))
    binding = (await owners(permissions, TENANT))[ALICE]
    with pytest.raises(FailedPrecondition) as caught:
        await permissions.revoke(ALICE, binding)
    assert caught.value.reason == "LAST_OWNER"
    await permissions.grant(ALICE, "owner", TENANT, BOB)
    await permissions.revoke(ALICE, binding)
    assert not await permissions.may(ALICE, "read", TENANT)


async def test_of_two_owners_who_leave_at_once_one_stays(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "owner", TENANT, BOB)
    bound = await owners(permissions, TENANT)
    leaving = (permissions.revoke(ALICE, bound[ALICE]), permissions.revoke(BOB, bound[BOB]))
    results = await asyncio.gather(*leaving, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["FailedPrecondition", "str"]
    assert [await permissions.may(each, "delete", TENANT) for each in (ALICE, BOB)].count(True) == 1


async def test_of_two_grants_of_one_role_at_once_one_is_made(permissions: Permissions) -> None:
    twice = (permissions.grant(ALICE, "viewer", BASE, BOB) for _ in range(2))
    results = await asyncio.gather(*twice, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["AlreadyExists", "GrantRoleResponse"]


async def test_a_binding_of_an_unseen_resource_is_not_found_by_its_own_name(permissions: Permissions) -> None:
    granted = await permissions.grant(ALICE, "viewer", BASE, BOB)
    with pytest.raises(NotFound) as caught:
        await permissions.revoke(CAROL, granted.role_binding.name)
    assert caught.value.resource_name == granted.role_binding.name
    await permissions.revoke(BOB, granted.role_binding.name, granted.role_binding.etag)
    assert not await permissions.may(BOB, "read", BASE)


async def test_owners_are_never_reduced(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "editor", WORKSPACE, BOB)
    await permissions.set_mode(ALICE, TABLE, ScopeMode.RESTRICT)
    assert not await permissions.may(BOB, "read", TABLE)
    assert await permissions.may(ALICE, "delete", TABLE)
    with pytest.raises(NotFound):
        await permissions.set_mode(BOB, TABLE, ScopeMode.INHERIT)
    await permissions.set_mode(ALICE, TABLE, ScopeMode.INHERIT)
    assert await permissions.may(BOB, "read", TABLE)
    with pytest.raises(InvalidArgument):
        await permissions.set_mode(ALICE, TENANT, ScopeMode.RESTRICT)


async def test_a_role_is_defined_by_those_who_have_all_of_it(permissions: Permissions) -> None:
    lead = await permissions.define_role("Lead", "tenant.read", "tenant.manage_access", "base.read")
    await permissions.grant(ALICE, lead, TENANT, BOB)
    await permissions.define_role("Reader", "base.read", by=BOB)
    with pytest.raises(PermissionDenied) as caught:
        await permissions.define_role("Writer", "base.update", by=BOB)
    assert caught.value.reason == "GRANT_EXCEEDS_OWN"
    with pytest.raises(AlreadyExists):
        await permissions.define_role("READER", "base.read")
    with pytest.raises(InvalidArgument) as unknown:
        await permissions.define_role("Cook", "kitchen.read")
    assert unknown.value.reason == "UNKNOWN_PERMISSION"
    with pytest.raises(InvalidArgument):
        await permissions.define_role("Owner", "base.read")


async def test_a_role_that_is_bound_changes_at_once_and_only_within_the_changers_power(
    permissions: Permissions,
) -> None:
    lead = await permissions.define_role("Lead", "tenant.read", "tenant.manage_access", "base.read", "base.update")
    reader = await permissions.define_role("Reader", "base.read")
    await permissions.grant(ALICE, lead, TENANT, BOB)
    await permissions.grant(ALICE, reader, BASE, CAROL)
    update = permissions.roles.update
    more = RolePatch(permissions=frozenset({"base.read", "base.update"}))
    await permissions.set_mode(ALICE, BASE, ScopeMode.RESTRICT)
    with pytest.raises(PermissionDenied):
        await update(caller(BOB), reader, more, "", messages.from_role)
    await permissions.set_mode(ALICE, BASE, ScopeMode.INHERIT)
    changed = await update(caller(BOB), reader, more, "", messages.from_role)
    assert await permissions.may(CAROL, "update", BASE)
    with pytest.raises(Aborted):
        await update(caller(ALICE), reader, RolePatch(description="late"), "0", messages.from_role)
    renamed = await update(caller(ALICE), reader, RolePatch("Writer"), changed.etag, messages.from_role)
    assert (renamed.display_name, list(renamed.permissions)) == ("Writer", ["base.read", "base.update"])


async def test_a_role_in_use_cannot_vanish(permissions: Permissions) -> None:
    reader = await permissions.define_role("Reader", "base.read")
    bound = await permissions.grant(ALICE, reader, BASE, BOB)

    async def delete() -> pb.DeleteRoleResponse:
        return await permissions.roles.delete(caller(ALICE), reader, "", lambda _: pb.DeleteRoleResponse())

    with pytest.raises(FailedPrecondition) as caught:
        await delete()
    assert caught.value.reason == "ROLE_IN_USE"
    await permissions.revoke(ALICE, bound.role_binding.name)
    await delete()
    with pytest.raises(NotFound):
        await permissions.roles.get(caller(ALICE), reader)
    with pytest.raises(FailedPrecondition) as system:
        await permissions.roles.delete(caller(ALICE), "viewer", "", lambda _: pb.DeleteRoleResponse())
    assert system.value.reason == "SYSTEM_ROLE"


async def test_roles_are_paged_system_roles_first(permissions: Permissions) -> None:
    custom = [await permissions.define_role(f"Role {number}", "base.read") for number in range(3)]
    found: list[str] = []
    while page := await permissions.roles.list(caller(ALICE), 2, found[-1] if found else ""):
        found += [role.id for role in page]
    assert found == [*schema.SYSTEM_ROLES, *custom]


async def test_who_may_list_bindings(permissions: Permissions) -> None:
    await permissions.write(ALICE, (Operation.CREATE, member(ref("group"), BOB)))
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    roles = permissions.roles
    own, _ = await roles.bindings(caller(BOB), Wanted(subject=BOB), NEAREST, 10, "")
    assert [str(each.resource) for each in own] == [BASE]
    with pytest.raises(PermissionDenied):
        await roles.bindings(caller(BOB), Wanted(resource=BASE), NEAREST, 10, "")
    with pytest.raises(PermissionDenied):
        await roles.bindings(caller(BOB), Wanted(), NEAREST, 10, "")
    everything, _ = await roles.bindings(caller(ALICE), Wanted(), NEAREST, 10, "")
    assert [str(each.subject) for each in everything] == [ALICE, BOB]
