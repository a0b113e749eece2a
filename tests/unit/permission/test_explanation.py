"""The sentence and the path of an answer, for each way in which it can come about."""

import pytest

from pyairtable_mesh.permission.domain import Resource, ScopeMode
from pyairtable_mesh.permission.explanation import MissingGrant, StepKind, explain
from tests.unit.permission.world import ALICE, BASE, TABLE, TENANT, WORKSPACE, Facts, hierarchy, members, ref

RECORD = Resource.parse(ref("record"))
GROUP_1, GROUP_2 = ref("group", 1), ref("group", 2)
UP_TO_WORKSPACE = f"{RECORD} inherits from {WORKSPACE} through {TABLE} and {BASE}"


@pytest.mark.parametrize(
    ("bound", "joined", "modes", "because"),
    [
        ([(ALICE, str(RECORD), "editor")], [], {}, f"roles/editor is bound to {ALICE} at {RECORD}"),
        (
            [(ALICE, WORKSPACE, "editor")],
            [],
            {},
            f"roles/editor is bound to {ALICE} at {WORKSPACE}, and {UP_TO_WORKSPACE}",
        ),
        (
            [(members(2), TABLE, "editor")],
            [(ALICE, GROUP_1), (members(1), GROUP_2)],
            {},
            f"roles/editor is bound to {members(2)} at {TABLE}, {ALICE} is in {GROUP_1}, which is in {GROUP_2},"
            f" and {RECORD} inherits from {TABLE}",
        ),
        (
            [(ALICE, TABLE, "editor"), ("user:*", BASE, "creator")],
            [],
            {TABLE: ScopeMode.RESTRICT},
            f"roles/editor is bound to {ALICE} at {TABLE}, {RECORD} inherits from {TABLE}, and {TABLE} is restricted"
            f" to those who may update above it as well; roles/creator is bound to user:* at {BASE}",
        ),
        (
            [(ALICE, WORKSPACE, "owner")],
            [],
            {TABLE: ScopeMode.RESTRICT},
            f"roles/owner is bound to {ALICE} at {WORKSPACE}, and {UP_TO_WORKSPACE}",
        ),
    ],
)
async def test_why_it_is_allowed(
    bound: list[tuple[str, str, str]], joined: list[tuple[str, str]], modes: dict[str, ScopeMode], because: str
) -> None:
    facts = Facts(hierarchy(), set(joined), modes=modes)
    for subject, resource, role in bound:
        facts.grant(subject, resource, role)
    answers = await facts.answers([str(RECORD)], [ALICE])
    explained = explain(answers, ALICE, RECORD, "update", surroundings=True)
    assert explained.sentence == f"{ALICE} may update {RECORD}: {because}."
    assert explained.allowed
    assert not explained.missing


@pytest.mark.parametrize(
    ("bound", "modes", "because", "missing"),
    [
        (
            [(ALICE, BASE, "viewer")],
            {},
            f"no role with record.update is bound to {ALICE} or a group of it"
            f" at {RECORD} or {TABLE} or {BASE} or {WORKSPACE} or {TENANT}",
            [str(RECORD)],
        ),
        (
            [(ALICE, BASE, "editor"), (ALICE, TABLE, "viewer")],
            {TABLE: ScopeMode.RESTRICT},
            f"{ALICE} has record.update at {BASE}, but {TABLE} is restricted to roles that are bound there,"
            " and none of these has it",
            [str(RECORD)],
        ),
        (
            [(ALICE, BASE, "editor"), (ALICE, TABLE, "viewer")],
            {TABLE: ScopeMode.OVERRIDE},
            f"{ALICE} has record.update at {BASE}, but the roles that are bound at {TABLE} override that",
            [str(RECORD)],
        ),
        (
            [],
            {str(RECORD): ScopeMode.RESTRICT},
            f"no role with record.update is bound to {ALICE} or a group of it"
            f" at {RECORD} or {TABLE} or {BASE} or {WORKSPACE} or {TENANT}",
            [str(RECORD), TABLE],
        ),
    ],
)
async def test_why_it_is_denied(
    bound: list[tuple[str, str, str]], modes: dict[str, ScopeMode], because: str, missing: list[str]
) -> None:
    facts = Facts(hierarchy(), modes=modes)
    for subject, resource, role in bound:
        facts.grant(subject, resource, role)
    answers = await facts.answers([str(RECORD)], [ALICE])
    explained = explain(answers, ALICE, RECORD, "update", surroundings=True)
    assert explained.sentence == f"{ALICE} may not update {RECORD}: {because}."
    assert explained.missing == [MissingGrant(place, "roles/editor", "record.update") for place in missing]
    hidden = explain(answers, ALICE, RECORD, "update", surroundings=False)
    assert not any(above in hidden.sentence for above in (TABLE, BASE, WORKSPACE))
    assert [each.resource for each in hidden.missing] == [str(RECORD)]


async def test_the_path_goes_from_the_subject_to_the_resource() -> None:
    facts = Facts(hierarchy(), {(ALICE, GROUP_1)})
    facts.grant(members(1), BASE, "editor")
    answers = await facts.answers([str(RECORD)], [ALICE])
    path = explain(answers, ALICE, RECORD, "update", surroundings=True).path
    assert [(step.kind, step.object, step.relation, step.subject) for step in path] == [
        (StepKind.MEMBERSHIP, GROUP_1, "member", ALICE),
        (StepKind.ROLE_BINDING, BASE, "roles/editor", members(1)),
        (StepKind.INHERITANCE, TABLE, "base", BASE),
        (StepKind.INHERITANCE, str(RECORD), "table", TABLE),
    ]
