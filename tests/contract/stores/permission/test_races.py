"""Two replicas that change the same at once: every rule holds afterwards, and both answer alike."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission.domain import Filter, Operation, Precondition, Relationship, ScopeMode
from pyairtable_mesh.permission.usecases.authority import HiddenError
from pyairtable_mesh.permission.usecases.consistency import NEWEST
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime.authorization import Circumstances
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.idempotency import Replayed
from tests.contract.stores.permission.conftest import (
    TENANT_SERVICE,
    Clock,
    Permissions,
    caller,
    member,
    with_request_id,
)
from tests.unit.permission.world import ALICE, BOB, CAROL, TENANT, TENANT_ID, WORKSPACE, ref

ROUNDS = 8


@pytest.fixture
async def replicas(database_url: str, clock: Clock) -> AsyncIterator[list[Permissions]]:
    """Two processes' worth of use cases on one database, in a tenant that Alice owns."""
    async with (
        databases.opened(database_url, service="permission", clock=clock) as one,
        databases.opened(database_url, service="permission", clock=clock) as two,
    ):
        made = [Permissions(each, clock) for each in (one, two)]
        await made[0].grant(TENANT_SERVICE, "owner", TENANT, ALICE)
        yield made


async def _outcomes(*acts: object) -> list[str]:
    results = await asyncio.gather(*acts, return_exceptions=True)  # type: ignore[call-overload]
    for each in results:
        if isinstance(each, BaseException) and not isinstance(each, MeshError | Replayed):
            raise each
    return sorted(each.reason if isinstance(each, MeshError) else "" for each in results)


async def _owners(replica: Permissions, resource: str) -> dict[str, str]:
    async with replica.states.seen(TENANT_ID, NEWEST) as state:
        bound = state.engine.bindings.values()
        return {each.subject: f"roleBindings/{each.id}" for each in bound if each.resource == resource}


async def test_a_resource_keeps_an_owner_whoever_leaves_at_once(replicas: list[Permissions]) -> None:
    one, two = replicas
    for _ in range(ROUNDS):
        for subject in (BOB, CAROL):
            if subject not in await _owners(one, WORKSPACE):
                await one.grant(ALICE, "owner", WORKSPACE, subject)
        bound = await _owners(two, WORKSPACE)
        left = await _outcomes(one.revoke(BOB, bound[BOB]), two.revoke(CAROL, bound[CAROL]))
        assert left == ["", "LAST_OWNER"]
        assert len(await _owners(two, WORKSPACE)) == 1


async def test_a_role_is_not_deleted_while_it_is_bound(replicas: list[Permissions]) -> None:
    one, two = replicas
    for number in range(ROUNDS):
        role = await one.define_role(f"Reader {number}", "base.read")
        deleting = one.roles.delete(caller(ALICE), role, "", lambda _: pb.DeleteRoleResponse())
        outcome = await _outcomes(deleting, two.grant(ALICE, role, WORKSPACE, BOB))
        assert outcome in (["", "ROLE_IN_USE"], ["", "ROLE_NOT_FOUND"])
        async with two.states.seen(TENANT_ID, NEWEST) as state:
            bound = any(each.role == role for each in state.engine.bindings.values())
            assert bound == bool(state.engine.roles.get(role))


async def test_of_two_writes_under_one_precondition_one_is_applied(replicas: list[Permissions]) -> None:
    one, two = replicas
    for number in range(ROUNDS):
        group = ref("group", number)
        free = Precondition(Filter(resource=group), must_match=False)
        outcome = await _outcomes(
            one.write(ALICE, *_joining(group, BOB), preconditions=[free]),
            two.write(ALICE, *_joining(group, CAROL), preconditions=[free]),
        )
        assert outcome == ["", "PRECONDITION_FAILED"]
        async with one.states.seen(TENANT_ID, NEWEST) as state:
            stored = {(each.object, each.subject) for each in state.engine.graph.relationships()}
        assert [(group, each) in stored for each in (BOB, CAROL)].count(True) == 1


def _joining(group: str, subject: str) -> list[tuple[Operation, Relationship]]:
    both = [member(group, subject), member(ref("group", "z"), f"{group}#member")]
    return [(Operation.TOUCH, each) for each in both]


async def test_a_repeated_write_happens_once_wherever_it_arrives(replicas: list[Permissions]) -> None:
    one, two = replicas
    for number in range(ROUNDS):
        request = with_request_id(caller(ALICE))
        joined = (Operation.CREATE, member(ref("group", number), BOB))
        before = (await one.engines.newest(TENANT_ID)).revision
        assert await _outcomes(one.write(request, joined), two.write(request, joined)) == ["", ""]
        assert (await two.engines.newest(TENANT_ID)).revision == before + 1


async def test_a_change_is_decided_by_the_newest_state_and_by_no_engine_that_is_behind(
    replicas: list[Permissions],
) -> None:
    one, other = replicas
    await one.grant(ALICE, "owner", WORKSPACE, ALICE)
    owning = (await one.grant(ALICE, "owner", WORKSPACE, BOB)).role_binding.name
    await other.engines.newest(TENANT_ID)
    await one.revoke(ALICE, owning)
    behind = other.engines.nearest(TENANT_ID)
    assert behind is not None
    assert behind.engine.check((WORKSPACE, "manage_access", BOB), Circumstances(0.0)).allowed
    with pytest.raises(HiddenError):
        await other.grant(BOB, "viewer", WORKSPACE, CAROL)
    with pytest.raises(HiddenError):
        await other.set_mode(BOB, WORKSPACE, ScopeMode.RESTRICT)
