"""The compiled engine against the oracle, at every revision of generated histories."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.runtime.authorization.compiler import monotone
from pyairtable_mesh.runtime.authorization.derivation import solve
from pyairtable_mesh.runtime.authorization.explanation import explain
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Decision, Relationship
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.lookup import Found, Listing, lookup_resources, lookup_subjects
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from pyairtable_mesh.runtime.authorization.snapshot import dump, load_relations
from tests.contract.authorization import worlds
from tests.contract.authorization.oracle import Oracle

contexts = st.sampled_from([{}, {"x": True}, {"x": False, "y": 1}, {"y": 5}])


def stored(changes: list[Change]) -> list[Relationship]:
    found: dict[tuple[str, str, str], Relationship] = {}
    for each in changes:
        found.pop(each.relationship.key, None)
        if not each.removed:
            found[each.relationship.key] = each.relationship
    return list(found.values())


@worlds.many
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


EXCLUSIVE = """model
  schema 1.1
type user
type folder
  relations
    define parent: [folder]
    define named: [user]
    define reader: named but not less
    define less: [user] or reader from parent
"""


@worlds.many
@given(st.sets(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2), st.sets(st.integers(1, 3), min_size=1))
def test_cycles_through_exclusions_agree_with_the_oracle(links: set[tuple[int, int]], named: set[int]) -> None:
    schema = parse(EXCLUSIVE)
    facts = [Relationship(f"folder:{one}", "parent", f"folder:{other}") for one, other in sorted(links)]
    facts += [Relationship(f"folder:{each}", "named", "user:a") for each in named]
    engine = RelationEngine(schema)
    engine.apply(1, map(Change, facts))
    oracle = Oracle(schema, worlds.evaluate, worlds.NOW)
    for folder in worlds.FOLDERS:
        expected = oracle.check(facts, folder, "reader", "user:a")
        assert engine.check((folder, "reader", "user:a"), Circumstances(worlds.NOW)).allowed == expected


@worlds.many
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


@worlds.many
@given(st.data(), contexts, st.integers(1, 3))
def test_lists_have_exactly_what_checks_allow_in_order_and_resume(
    data: st.DataObject, context: dict[str, object], limit: int
) -> None:
    schema = data.draw(worlds.schemas())
    facts = stored(data.draw(worlds.histories(schema)))
    engine = RelationEngine(schema)
    engine.apply(1, map(Change, facts))
    given = Circumstances(worlds.NOW, context)
    for relation in worlds.COMPUTED:
        for subject in worlds.SUBJECTS:
            expected = [
                Found(target, decision.missing)
                for target in worlds.FOLDERS
                if (decision := engine.check((target, relation, subject), given)).allowed or decision.missing
            ]

            def page(relation: str = relation, subject: str = subject, **bounds: Any) -> Listing:
                return lookup_resources(engine, "folder", relation, subject, given, **bounds)

            assert page() == Listing(tuple(expected), complete=True)
            assert pages(page, limit=limit) == pages(page, budget=limit) == expected
        for target in worlds.FOLDERS:
            found = lookup_subjects(engine, target, relation, "user", given).entries
            listed = {each.reference: each for each in found}
            for subject in [*worlds.USERS, "user:*", "user:nobody"]:
                decision = engine.check((target, relation, subject), given)
                entry = listed.get(subject)
                everyone = listed.get("user:*")
                if entry is None and everyone is not None and subject not in everyone.excluded:
                    entry = everyone
                assert (decision.allowed, decision.missing) == (
                    (False, frozenset()) if entry is None else (not entry.missing, entry.missing)
                )
            for each in lookup_subjects(engine, target, relation, "group", given, subject_relation="member").entries:
                decision = engine.check((target, relation, each.reference), given)
                assert decision.allowed or decision.missing == each.missing


def pages(page: Callable[..., Listing], **bounds: int) -> list[Found]:
    found: list[Found] = []
    after = ""
    while True:
        listing = page(after=after, **bounds)
        found += listing.entries
        if listing.complete:
            return found
        after = listing.resume


@worlds.many
@given(st.data(), contexts)
def test_explanations_say_what_checks_say_and_name_relationships_that_matter(
    data: st.DataObject, context: dict[str, object]
) -> None:
    schema = data.draw(worlds.schemas())
    facts = stored(data.draw(worlds.histories(schema)))
    engine = RelationEngine(schema)
    engine.apply(1, map(Change, facts))
    given = Circumstances(worlds.NOW, context)
    known = {each.key for each in facts}
    for target, relation in worlds.QUESTIONS:
        for subject in worlds.SUBJECTS:
            question = target, relation, subject
            explanation = explain(engine, question, given)
            assert explanation.decision == engine.check(question, given)
            assert {each.key for each in explanation.path} <= known
            if explanation.path and monotone(
                engine.graph,
                engine.graph.slots.by_type[engine.graph.slots.type_index[target.partition(":")[0]]][relation],
            ):
                alone = RelationEngine(schema)
                alone.apply(1, [Change(each) for each in facts if each.key in {step.key for step in explanation.path}])
                assert alone.check(question, given).allowed
            if explanation.missing:
                more = replace(given, contextual=explanation.missing)
                assert engine.check(question, more).allowed
                for index in range(len(explanation.missing)):
                    fewer = [*explanation.missing[:index], *explanation.missing[index + 1 :]]
                    assert not engine.check(question, replace(given, contextual=fewer)).allowed


@worlds.many
@given(st.data())
def test_a_snapshot_answers_as_the_engine_that_it_was_taken_from(data: st.DataObject) -> None:
    schema = data.draw(worlds.schemas())
    engine = RelationEngine(schema)
    engine.apply(3, data.draw(worlds.histories(schema)))
    copy = load_relations(dump(engine), schema)
    more = [Change(data.draw(worlds.relationships(schema)))]
    for _ in range(2):
        for target, relation in worlds.QUESTIONS:
            batch = [(target, relation, subject) for subject in worlds.SUBJECTS]
            assert copy.batch(batch, Circumstances(worlds.NOW)) == engine.batch(batch, Circumstances(worlds.NOW))
        engine.apply(4, more)
        copy.apply(4, more)
