"""The evaluator against the definitions of permission.md, written once more as plain sets."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import ScopeMode
from tests.unit.permission.world import (
    ALICE,
    BASE,
    BOB,
    TABLE,
    TENANT,
    WORKSPACE,
    Facts,
    hierarchy,
    members,
    ref,
)

RECORD = ref("record")
CHAIN = [RECORD, TABLE, BASE, WORKSPACE, TENANT]
GROUPS = [1, 2, 3]
ROLES = ["viewer", "commenter", "editor", "owner"]


def oracle(facts: Facts, subject: str, resource: str) -> frozenset[str]:
    """effective(s, r) by the letter, with every set computed anew."""
    counts_as = {subject} | ({"user:*"} if subject.startswith("user:") else set())
    for _ in facts.memberships:
        counts_as |= {f"{group}#member" for member, group in facts.memberships if member in counts_as}
    kind = resource.partition(":")[0]
    parent = facts.parents.get(resource) if schema.TYPES[kind].linked else TENANT if kind != "tenant" else None
    here = [each for each in facts.bound if each.resource == resource and each.subject in counts_as]
    own = frozenset(itertools.chain.from_iterable(each.permissions for each in here))
    above = oracle(facts, subject, parent) if parent else frozenset()
    mode = facts.modes.get(resource, ScopeMode.INHERIT)
    reduced = {
        ScopeMode.INHERIT: own | above,
        ScopeMode.RESTRICT: own & above,
        ScopeMode.OVERRIDE: own if here else above,
    }
    return reduced[mode] | (schema.SYSTEM_ROLES["owner"] if is_owner(facts, counts_as, resource) else frozenset())


def is_owner(facts: Facts, counts_as: set[str], resource: str) -> bool:
    above = CHAIN[CHAIN.index(resource) :]
    return any(each.role == "owner" and each.resource in above and each.subject in counts_as for each in facts.bound)


@st.composite
def worlds(draw: st.DrawFn) -> Facts:
    subjects = [ALICE, BOB, "user:*", *(members(number) for number in GROUPS)]
    pairs = st.tuples(
        st.sampled_from([each for each in subjects if each != "user:*"]),
        st.sampled_from([ref("group", number) for number in GROUPS]),
    )
    facts = Facts(hierarchy(), draw(st.sets(pairs, max_size=6)))
    bindings = st.tuples(st.sampled_from(subjects), st.sampled_from(CHAIN), st.sampled_from(ROLES))
    for subject, resource, role in draw(st.lists(bindings, max_size=6, unique=True)):
        facts.grant(subject, resource, role)
    facts.modes = draw(st.dictionaries(st.sampled_from(CHAIN[:-1]), st.sampled_from(ScopeMode), max_size=4))
    return facts


@settings(max_examples=100, deadline=None)
@given(worlds())
async def test_effective_permissions_are_those_of_the_definition(facts: Facts) -> None:
    answers = await facts.answers([RECORD], [ALICE, BOB, members(1)])
    for subject, resource in itertools.product([ALICE, BOB, members(1)], CHAIN):
        assert answers.effective(subject, resource) == oracle(facts, subject, resource)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.sampled_from(["read", "update", "delete"]))
async def test_a_reason_is_given_for_exactly_what_is_allowed_and_holds(facts: Facts, verb: str) -> None:
    permission = f"record.{verb}"
    answers = await facts.answers([RECORD], [ALICE])
    why = answers.why(ALICE, RECORD, permission)
    assert (why is not None) == answers.allowed(ALICE, RECORD, permission)
    if why is not None:
        assert permission in why.grant.permissions
        assert why.resources == tuple(reversed(CHAIN[: CHAIN.index(why.grant.resource) + 1]))
        assert set(why.memberships) <= facts.memberships


@settings(max_examples=100, deadline=None)
@given(worlds())
async def test_the_missing_grants_turn_a_denial_around_and_none_is_spare(facts: Facts) -> None:
    missing = (await facts.answers([RECORD], [ALICE])).missing(ALICE, RECORD, "record.delete")
    for left_out in [*missing, None]:
        more = Facts(facts.parents, facts.memberships, list(facts.bound), facts.modes)
        for resource in missing:
            if resource != left_out:
                more.grant(ALICE, resource, "editor")
        allowed = (await more.answers([RECORD], [ALICE])).allowed(ALICE, RECORD, "record.delete")
        assert allowed == (left_out is None)
