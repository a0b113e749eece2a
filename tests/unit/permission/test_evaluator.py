"""The evaluator: scope modes, nested groups, and what counts for one question only."""

import pytest

from pyairtable_mesh.permission.domain import Relationship, Resource, ScopeMode, Subject
from pyairtable_mesh.permission.evaluator import MAX_NESTING
from pyairtable_mesh.runtime.errors import ResourceExhausted
from tests.unit.authorization.estate import scope_modes
from tests.unit.permission.world import ALICE, BASE, BOB, TABLE, TENANT, WORKSPACE, Facts, hierarchy, members, ref

RECORD = ref("record")


@scope_modes
async def test_scope_modes(mode: str, own: str, above: str, may_read: bool, may_delete: bool) -> None:
    facts = Facts(hierarchy(), modes={TABLE: ScopeMode(mode)})
    for resource, role in ((TABLE, own), (WORKSPACE, above)):
        if role:
            facts.grant(ALICE, resource, role)
    answers = await facts.answers([RECORD], [ALICE])
    assert answers.allowed(ALICE, RECORD, "record.read") == may_read
    assert answers.allowed(ALICE, RECORD, "record.delete") == may_delete


async def test_groups_nest_and_a_cycle_of_groups_ends() -> None:
    facts = Facts(hierarchy(), {(ALICE, ref("group", 1)), (members(1), ref("group", 2)), (members(2), ref("group", 1))})
    facts.grant(members(2), BASE, "viewer")
    answers = await facts.answers([BASE], [ALICE, BOB])
    assert answers.allowed(ALICE, BASE, "base.read")
    assert not answers.allowed(BOB, BASE, "base.read")


async def test_nesting_that_is_too_deep_is_an_error_with_the_path_and_no_denial() -> None:
    nested = {(members(number), ref("group", number + 1)) for number in range(1, MAX_NESTING + 2)}
    facts = Facts(hierarchy(), {(ALICE, ref("group", 1)), *nested})
    answers = await facts.answers([BASE], [ALICE])
    facts.grant(members(1), BASE, "viewer")
    answers = await facts.answers([BASE], [ALICE])
    with pytest.raises(ResourceExhausted) as caught:
        answers.allowed(ALICE, BASE, "base.read")
    assert caught.value.reason == "EVALUATION_LIMIT"
    assert caught.value.metadata["path"].startswith(ref("group", 1))


async def test_contextual_relationships_count_for_one_question_only() -> None:
    facts = Facts(hierarchy())
    facts.grant(members(1), ref("workspace", 2), "editor")
    elsewhere = Relationship(Resource.parse(BASE), "workspace", Subject.parse(ref("workspace", 2)))
    joined = Relationship(Resource.parse(ref("group", 1)), "member", Subject.parse(ALICE))
    assert not (await facts.answers([BASE], [ALICE])).allowed(ALICE, BASE, "base.read")
    assert not (await facts.answers([BASE], [ALICE], [joined])).allowed(ALICE, BASE, "base.read")
    assert (await facts.answers([BASE], [ALICE], [joined, elsewhere])).allowed(ALICE, BASE, "base.read")


async def test_another_tenant_is_no_parent() -> None:
    facts = Facts(hierarchy())
    facts.grant(ALICE, TENANT, "owner")
    other = ref("tenant", 2)
    answers = await facts.answers([other, WORKSPACE], [ALICE])
    assert answers.allowed(ALICE, WORKSPACE, "workspace.delete")
    assert not answers.allowed(ALICE, other, "tenant.read")
