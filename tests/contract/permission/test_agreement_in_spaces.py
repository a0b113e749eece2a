"""Every RPC that answers about a model space, held against the naive oracle at every revision of generated histories.

Each example is a space of its own, with a generated schema. The clock stands still, and is turned forward between two
rounds of questions. `PYAIRTABLE_TEST_EXAMPLES` asks for more examples; a failure prints a case for the corpus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.authorization.facts import Change, Relationship, Verdict
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from tests.contract.authorization import worlds
from tests.contract.authorization.oracle import Oracle
from tests.contract.permission.asking import Asking, Listed, Question, Under, agree, message, struct, verdict
from tests.contract.permission.conftest import NewSpace
from tests.contract.permission.serving import few
from tests.contract.permission.trees import says
from tests.contract.stores.permission.conftest import Clock
from tests.unit.authorization import cases

EPOCH = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
"""Where the seconds of `worlds` begin."""
WRITTEN, EXPIRED = EPOCH + worlds.NOW - 2, EPOCH + worlds.NOW
"""When histories are written: nothing has expired; and when some has."""
QUESTIONS: list[Question] = [
    (target, relation, subject) for target, relation in worlds.QUESTIONS for subject in worlds.SUBJECTS
]
TARGETS = sorted({target for target, *_ in QUESTIONS})
contexts = st.sampled_from([{"x": True}, {"x": False, "y": 5}, {"y": 1}])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@st.composite
def histories(draw: st.DrawFn, schema: Schema) -> list[list[Change]]:
    """Writes of one change or several, all in the seconds of the clock."""
    writes: list[list[Change]] = []
    for each in draw(worlds.histories(schema)):
        moved = Change(in_seconds_of_the_clock(each.relationship), each.removed)
        same = writes and moved.relationship.key not in {other.relationship.key for other in writes[-1]}
        if same and draw(st.booleans()):
            writes[-1].append(moved)
        else:
            writes.append([moved])
    return writes


def in_seconds_of_the_clock(each: Relationship) -> Relationship:
    expires = each.term.expires
    return each if expires is None else replace(each, term=replace(each.term, expires=EPOCH + expires))


@dataclass
class World:
    """What a space was at one revision, asked at a moment and with a context."""

    schema: Schema
    facts: Sequence[Relationship]
    now: float
    under: Under

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.schema, worlds.evaluate, self.now, self.under.context)
        held = [*self.facts, *self.under.contextual]
        self._answers = {each: self.oracle.answers(held, TARGETS, each) for each in worlds.SUBJECTS}

    def answer(self, question: Question) -> Verdict:
        target, relation, subject = question
        return self._answers[subject][target, relation]

    def hold(self, found: Verdict, question: Question, rpc: str) -> None:
        expected = self.answer(question)
        assert agree(found, expected), f"{rpc} says {found} of {question}\n{self.case(question)}"

    def case(self, question: Question) -> str:
        """This question, as a file of the corpus says it."""
        alive = [
            replace(each, term=replace(each.term, expires=None))
            for each in [*self.facts, *self.under.contextual]
            if self.oracle.term(each) is not False
        ]
        expected = cases.Expected(*question, self.under.context, self.answer(question))
        return cases.written(self.schema, alive, expected)


def after(facts: Sequence[Relationship], write: Sequence[Change]) -> list[Relationship]:
    """What is stored behind a write."""
    keys = {each.relationship.key for each in write}
    kept = [each for each in facts if each.key not in keys]
    return [*kept, *(each.relationship for each in write if not each.removed)]


@few
@given(st.data(), contexts)
async def test_every_rpc_says_what_the_oracle_says_at_every_revision(
    new_space: NewSpace, clock: Clock, data: st.DataObject, context: Mapping[str, Any]
) -> None:
    schema = data.draw(worlds.schemas())
    clock.now = datetime.fromtimestamp(WRITTEN, UTC)
    space = await new_space()
    await space.stub.WriteSchema(pb.WriteSchemaRequest(space=space.space, source=str(schema)), metadata=space.metadata)
    states: list[tuple[str, list[Relationship]]] = []
    facts: list[Relationship] = []
    for number, write in enumerate(data.draw(histories(schema))):
        facts = after(facts, write)
        states.append((await written(space, write), facts))
        # Without context on every other revision: what is unknown there is what engines take for yes or no.
        under = Under(pb.Consistency(at_least_as_fresh=states[-1][0]), context if number % 2 else {})
        world = World(schema, facts, WRITTEN, under)
        for question, found in zip(QUESTIONS, await space.batch(QUESTIONS, under), strict=True):
            world.hold(found, question, "BatchCheckPermissions")
    target = data.draw(st.sampled_from(TARGETS))
    facts = [each for each in facts if each.object != target]
    states.append((await deleted(space, target), facts))
    for now in (WRITTEN, EXPIRED):
        clock.now = datetime.fromtimestamp(now, UTC)
        for token, held in [states[-1], *data.draw(st.lists(st.sampled_from(states), max_size=2))]:
            under = Under(pb.Consistency(at_exact_snapshot=token), context)
            world = World(schema, held, now, under)
            await everything_agrees(space, world, data)
            assumed = in_seconds_of_the_clock(data.draw(worlds.relationships(schema)))
            contextual = replace(under, contextual=[assumed])
            await questions_agree(space, World(schema, held, now, contextual), data)


async def written(space: Asking, write: Sequence[Change]) -> str:
    update = pb.RelationshipUpdate
    updates = [
        update(
            operation=update.OPERATION_DELETE if each.removed else update.OPERATION_TOUCH,
            relationship=message(each.relationship),
        )
        for each in write
    ]
    request = pb.WriteRelationshipsRequest(updates=updates, space=space.space)
    return (await space.stub.WriteRelationships(request, metadata=space.metadata)).consistency_token


async def deleted(space: Asking, resource: str) -> str:
    request = pb.DeleteRelationshipsRequest(filter={"resource": resource}, space=space.space)
    return (await space.stub.DeleteRelationships(request, metadata=space.metadata)).consistency_token


async def everything_agrees(space: Asking, world: World, data: st.DataObject) -> None:
    await questions_agree(space, world, data)
    some = QUESTIONS[data.draw(st.integers(0, 4)) :: 5]
    for question, found in zip(some, await space.stream(some, world.under), strict=True):
        world.hold(found, question, "StreamCheckPermissions")
    await relationships_are_those(space, world)
    await expansion_agrees(space, world, data)
    await tried_schema_agrees(space, world)


async def questions_agree(space: Asking, world: World, data: st.DataObject) -> None:
    """What takes assumed relationships."""
    for question, found in zip(QUESTIONS, await space.batch(QUESTIONS, world.under), strict=True):
        world.hold(found, question, "BatchCheckPermissions")
    for question in data.draw(st.lists(st.sampled_from(QUESTIONS), min_size=2, max_size=3)):
        world.hold(await space.check(question, world.under), question, "CheckPermission")
        await explanation_agrees(space, world, question)
    subject, relation = data.draw(st.sampled_from(worlds.SUBJECTS)), data.draw(st.sampled_from(worlds.COMPUTED))
    await lists_agree(space, world, relation, subject)


async def explanation_agrees(space: Asking, world: World, question: Question) -> None:
    explained = await space.explain(question, world.under)
    world.hold(verdict(explained.decision), question, "ExplainPermission")
    held = [*world.facts, *world.under.contextual]
    true = {each.key for each in held if world.oracle.term(each) is True}
    path = {(each.object, each.relation, each.subject) for each in explained.path}
    assert path <= true, f"ExplainPermission leads through {path - true}\n{world.case(question)}"
    assert explained.decision.result == pb.Decision.RESULT_ALLOWED or not path
    if explained.missing_grants:
        target, relation, subject = question
        more = [Relationship(each.resource, each.permission, subject) for each in explained.missing_grants]
        turned = world.oracle.check([*held, *more], target, relation, subject)
        assert turned is True, f"ExplainPermission misses {more}\n{world.case(question)}"


async def lists_agree(space: Asking, world: World, relation: str, subject: str) -> None:
    for kind, targets in (("folder", worlds.FOLDERS), ("doc", worlds.DOCUMENTS)):
        listed = await space.resources(kind, relation, subject, world.under)
        assert listed.keys() <= set(targets)
        for target in targets:
            entry = listed.get(target, Listed(False))
            world.hold(entry.verdict, (target, relation, subject), "LookupResources")
            assert target not in listed or entry.verdict is not False
    for target in [*worlds.FOLDERS, *worlds.DOCUMENTS]:
        users = await space.subjects(target, relation, "user", world.under)
        assert all(each.verdict is not False for each in users.values())
        for user in [each for each in worlds.SUBJECTS if each.startswith("user:")]:
            world.hold(_covered(users, user), (target, relation, user), "LookupSubjects")
        groups = await space.subjects(target, relation, "group#member", world.under)
        entry = groups.get("group:g#member", Listed(False))
        world.hold(entry.verdict, (target, relation, "group:g#member"), "LookupSubjects")


def _covered(listed: Mapping[str, Listed], user: str) -> Verdict:
    """What a list of users says of one."""
    everyone = listed.get("user:*", Listed(False))
    entry = listed.get(user, Listed(False) if user in everyone.excluded else everyone)
    return entry.verdict


async def expansion_agrees(space: Asking, world: World, data: st.DataObject) -> None:
    """A tree is asked for without context, and does not tell which of its subjects and branches are conditional."""
    bare = World(world.schema, world.facts, world.now, replace(world.under, context={}))
    terms = {each.key: bare.oracle.term(each) for each in world.facts}
    if any("#" in subject and not isinstance(term, bool) for (_, _, subject), term in terms.items()):
        return
    target, relation = data.draw(st.sampled_from(worlds.QUESTIONS))
    tree = await space.expand(target, relation, bare.under)
    for user in [*worlds.USERS, "user:nobody"]:

        def has(leaf: pb.ExpansionNode, user: str = user) -> bool | None:
            named = [each for each in leaf.subjects if each in {user, "user:*"}]
            found = [terms[leaf.resource, leaf.relation, each] for each in named]
            return True if True in found else None if found else False

        found = says(tree, has)
        if found is not None:
            bare.hold(found, (target, relation, user), "ExpandPermission")


async def relationships_are_those(space: Asking, world: World) -> None:
    """What is stored is read and exported as it was, without what has expired."""
    alive = [each for each in world.facts if each.term.expires is None or each.term.expires > world.now]
    expected = sorted((message(each) for each in alive), key=_key)
    exported = await space.exported(world.under)
    assert list(map(_key, exported)) == list(map(_key, expected))
    assert exported == expected
    docs = await space.stored("doc", world.under)
    assert docs == [each for each in expected if each.resource.startswith("doc:")]


def _key(each: pb.Relationship) -> tuple[str, str, str]:
    return each.resource, each.relation, each.subject


async def tried_schema_agrees(space: Asking, world: World) -> None:
    """The same schema and relationships, tried without being stored."""
    context = struct(world.under.context)
    request = pb.TestSchemaRequest(
        schema={"text": str(world.schema)},
        relationships=map(message, world.facts),
        assertions=[
            pb.SchemaAssertion(
                check={"resource": target, "permission": relation, "subject": subject, "context": context},
                expected=pb.Decision.RESULT_ALLOWED,
            )
            for target, relation, subject in QUESTIONS
        ],
    )
    tried = await space.stub.TestSchema(request, metadata=space.metadata)
    for question, result in zip(QUESTIONS, tried.results, strict=True):
        found = verdict(result.actual.decision)
        world.hold(found, question, "TestSchema")
        assert result.passed == (found is True)
