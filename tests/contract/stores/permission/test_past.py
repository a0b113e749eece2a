"""Lists at a revision, and engines led back to one, whatever has happened since and however little is kept of it."""

import pytest

from pyairtable_mesh.permission import engines
from pyairtable_mesh.permission.domain import Operation, Relationship, RoleBinding
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.consistency import Consistency
from pyairtable_mesh.permission.usecases.roles import Wanted
from tests.contract.stores.permission.conftest import Permissions, caller, member
from tests.unit.permission.world import ALICE, TENANT_ID, WORKSPACE, ref

GROUP = ref("group")


def _members(numbers: range) -> list[Relationship]:
    return [member(GROUP, ref("user", number)) for number in numbers]


async def _happened(permissions: Permissions) -> tuple[str, list[str], list[str]]:
    """A token, and the memberships and bindings of its state; then everything of it changes, and more."""
    await permissions.write(ALICE, *((Operation.CREATE, each) for each in _members(range(20, 40))))
    for number in range(4):
        await permissions.grant(ALICE, "viewer", WORKSPACE, ref("user", number))
    token = await permissions.write(ALICE, (Operation.CREATE, member(GROUP, ALICE)))
    stored = await _memberships(permissions, Consistency(token), 100)
    bound = await _bindings(permissions, Consistency(token), 100)
    for number in (*range(10, 30), *range(45, 60)):
        touched = member(GROUP, ref("user", number))
        operation = Operation.DELETE if 20 <= number < 30 else Operation.CREATE
        await permissions.write(ALICE, (operation, touched))
    for each in bound[1::2]:
        await permissions.revoke(ALICE, f"roleBindings/{each}")
    for number in range(4, 9):
        await permissions.grant(ALICE, "viewer", WORKSPACE, ref("user", number))
    return token, stored, bound


async def _memberships(permissions: Permissions, consistency: Consistency, size: int) -> list[str]:
    found: list[Relationship] = []
    revision = 0
    while True:
        after = past.relationship_key(found[-1]) if found else None
        part, revision = await permissions.relationships.export(caller(ALICE), consistency, revision, after, size)
        found += part
        if len(part) < size:
            return list(map(str, found))


async def _bindings(permissions: Permissions, consistency: Consistency, size: int) -> list[str]:
    found: list[RoleBinding] = []
    while True:
        after = found[-1].id if found else ""
        part, _ = await permissions.roles.bindings(caller(ALICE), Wanted(), consistency, size, after)
        found += part
        if len(part) < size:
            return [each.id for each in found]


@pytest.mark.parametrize(("kept", "size"), [(1, 1), (1, 6), (2, 100), (7, 4), (1_000, 6)])
async def test_a_list_at_a_revision_is_the_list_that_it_was(
    permissions: Permissions, kept: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, stored, bound = await _happened(permissions)
    monkeypatch.setattr(past, "MOST_CHANGED", kept)
    monkeypatch.setattr(past, "_CHANGES_IN_ONE_READ", 3)
    exactly = Consistency(token, exact=True)
    assert await _memberships(permissions, exactly, size) == stored
    assert await _bindings(permissions, exactly, size) == bound


async def test_an_engine_is_led_back_in_parts(permissions: Permissions, monkeypatch: pytest.MonkeyPatch) -> None:
    token, stored, bound = await _happened(permissions)
    monkeypatch.setattr(engines, "_CHANGES_IN_ONE_READ", 3)
    revision = permissions.tokens.revision(TENANT_ID, token, "token")
    for at in (revision + 10, revision):
        async with permissions.engines.exactly(TENANT_ID, at) as state:
            assert state.revision == at
    async with permissions.engines.exactly(TENANT_ID, revision) as state:
        assert sorted(state.engine.bindings) == bound
        held = {f"{each.object}#{each.relation}@{each.subject}" for each in state.engine.graph.relationships()}
        assert held == set(stored)
