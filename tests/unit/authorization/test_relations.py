"""The compiled engine against the oracle, at every revision of generated histories."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyairtable_mesh.runtime.authorization.derivation import solve
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Decision, Relationship
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from tests.unit.authorization import worlds
from tests.unit.authorization.oracle import Oracle

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
contexts = st.sampled_from([{}, {"x": True}, {"x": False, "y": 1}, {"y": 5}])


def stored(changes: list[Change]) -> list[Relationship]:
    found: dict[tuple[str, str, str], Relationship] = {}
    for each in changes:
        found.pop(each.relationship.key, None)
        if not each.removed:
            found[each.relationship.key] = each.relationship
    return list(found.values())


@many
@given(st.data(), contexts)
def test_checks_agree_with_the_oracle_at_every_revision(data: st.DataObject, context: dict[str, object]) -> None:
    schema = data.draw(worlds.schemas())
    history = data.draw(worlds.histories(schema))
    engine = RelationEngine(schema)
    given = Circumstances(worlds.NOW, context)
    oracle = Oracle(schema, worlds.evaluate, worlds.NOW, context)
    for revision in range(len(history) + 1):
        if revision:
            engine.apply(revision, history[revision - 1 : revision])
        facts = stored(history[:revision])
        assert engine.graph.count == len(facts)
        questions = data.draw(
            st.lists(st.tuples(st.sampled_from(worlds.QUESTIONS), st.sampled_from(worlds.SUBJECTS)), max_size=6)
        )
        for (target, relation), subject in questions:
            expected = Decision.of(oracle.check(facts, target, relation, subject), revision)
            found = engine.check((target, relation, subject), given)
            assert (found.allowed, bool(found.missing)) == (expected.allowed, bool(expected.missing))
            assert found.missing <= expected.missing
            with engine.asked((target, relation, subject), given) as (query, key):
                solved = Decision.of(solve(query, key)[key], revision)
            assert (solved.allowed, bool(solved.missing)) == (expected.allowed, bool(expected.missing))


@many
@given(st.data())
def test_contextual_relationships_answer_as_if_they_were_stored(data: st.DataObject) -> None:
    schema = data.draw(worlds.schemas())
    facts = stored(data.draw(worlds.histories(schema)))
    cut = data.draw(st.integers(0, len(facts)))
    engine, whole = RelationEngine(schema), RelationEngine(schema)
    engine.apply(1, map(Change, facts[:cut]))
    whole.apply(1, map(Change, facts))
    names = len(engine.graph.names)
    for target, relation in worlds.QUESTIONS:
        for subject in worlds.SUBJECTS:
            question = target, relation, subject
            found = engine.check(question, Circumstances(worlds.NOW, contextual=facts[cut:]))
            assert found == whole.check(question, Circumstances(worlds.NOW))
    assert len(engine.graph.names) == names
