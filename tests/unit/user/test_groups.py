from dataclasses import replace

import pytest

from pyairtable_mesh.runtime.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from pyairtable_mesh.runtime.filters import All
from pyairtable_mesh.user.domain import Group, Member
from pyairtable_mesh.user.usecases.groups import Groups
from tests.unit.user.people import (
    EPOCH,
    OTHER_TENANT,
    TENANT,
    FakeMemberships,
    FakeStore,
    caller,
    identifier,
    person,
    team,
)

CALLER = caller()
ENGINES, POETRY = team(1), team(2, "Poetry")
ADA = Member("user", person(1).id)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore().add(ENGINES, POETRY, person(1), person(2, "Bob", delete_time=EPOCH))


@pytest.fixture
def memberships() -> FakeMemberships:
    return FakeMemberships()


@pytest.fixture
def groups(store: FakeStore, memberships: FakeMemberships) -> Groups:
    return Groups(store, memberships)


async def test_a_group_is_made_changed_and_listed(groups: Groups, store: FakeStore) -> None:
    made = await groups.create(CALLER, {"display_name": "Maths", "description": "Numbers"})
    assert made == Group(made.id, "Maths", store.now, store.now, "Numbers")
    changed = await groups.update(CALLER, made.id, {"display_name": "Mathematics"}, made.etag)
    assert await groups.get(CALLER, made.id) == changed == replace(made, display_name="Mathematics")
    assert (await groups.list(CALLER, All(), (), 2, ())).items == [ENGINES, POETRY]
    assert store.announced == ["Group created", "Group updated"]
    with pytest.raises(Aborted):
        await groups.update(CALLER, made.id, {"display_name": "M"}, made.etag)


async def test_a_deleted_group_takes_its_memberships_with_it(
    groups: Groups, store: FakeStore, memberships: FakeMemberships
) -> None:
    inside = Member("group", ENGINES.id)
    memberships.members = {ENGINES.id: [ADA], POETRY.id: [inside, ADA]}
    await groups.delete(CALLER, ENGINES.id, ENGINES.etag)
    assert memberships.members == {POETRY.id: [ADA]}
    assert store.announced == ["Group deleted"]
    assert store.changes[-1].answers == [None]
    with pytest.raises(NotFound):
        await groups.get(CALLER, ENGINES.id)


async def test_a_group_stays_while_its_memberships_cannot_be_taken_away(
    groups: Groups, memberships: FakeMemberships
) -> None:
    memberships.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await groups.delete(CALLER, ENGINES.id, "")
    assert await groups.get(CALLER, ENGINES.id) == ENGINES


async def test_a_group_that_has_changed_keeps_its_members(groups: Groups, memberships: FakeMemberships) -> None:
    memberships.members = {ENGINES.id: [ADA]}
    with pytest.raises(Aborted):
        await groups.delete(CALLER, ENGINES.id, POETRY.etag)
    assert memberships.members == {ENGINES.id: [ADA]}


async def test_users_and_groups_become_members_and_leave(groups: Groups) -> None:
    nested = Member("group", POETRY.id)
    for member in (ADA, nested, ADA):
        await groups.add_member(CALLER, ENGINES.id, member)
    assert await groups.members(CALLER, ENGINES.id, 1, "") == ([ADA], "1")
    assert await groups.members(CALLER, ENGINES.id, 1, "1") == ([nested], "")
    await groups.remove_member(CALLER, ENGINES.id, ADA)
    await groups.remove_member(CALLER, ENGINES.id, Member("user", identifier("usr", 99)))
    assert await groups.members(CALLER, ENGINES.id, 10, "") == ([nested], "")


async def test_a_group_deleted_while_somebody_joins_keeps_no_member(store: FakeStore) -> None:
    class Slow(FakeMemberships):
        async def add(self, group_id: str, member: Member) -> None:
            await Groups(store, self).delete(CALLER, group_id, "")
            await super().add(group_id, member)

    memberships = Slow()
    with pytest.raises(NotFound):
        await Groups(store, memberships).add_member(CALLER, ENGINES.id, ADA)
    assert memberships.members == {ENGINES.id: []}


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Member("group", ENGINES.id), "GROUP_IN_ITSELF"),
        (Member("group", identifier("grp", 99)), "GROUP_NOT_FOUND"),
        (Member("user", identifier("usr", 99)), "USER_NOT_FOUND"),
        (Member("user", person(2).id), "USER_DELETED"),
    ],
)
async def test_who_cannot_be_a_member_is_refused(
    groups: Groups, memberships: FakeMemberships, member: Member, reason: str
) -> None:
    with pytest.raises((NotFound, FailedPrecondition)) as refused:
        await groups.add_member(CALLER, ENGINES.id, member)
    assert refused.value.reason == reason
    assert memberships.members == {}


@pytest.mark.parametrize("tenant", [TENANT, OTHER_TENANT])
async def test_a_group_that_is_not_there_is_not_found(groups: Groups, tenant: str) -> None:
    who, group = caller(tenant), identifier("grp", 99) if tenant == TENANT else ENGINES.id
    for attempt in (
        groups.get(who, group),
        groups.update(who, group, {}, ""),
        groups.delete(who, group, ""),
        groups.add_member(who, group, ADA),
        groups.remove_member(who, group, ADA),
        groups.members(who, group, 10, ""),
    ):
        with pytest.raises(NotFound) as refused:
            await attempt
        assert refused.value.reason == "GROUP_NOT_FOUND"
