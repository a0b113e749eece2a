"""Roles and scope modes against their definition, written once more as plain sets, at every revision."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.runtime.authorization import product
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Decision, Relationship, Term
from pyairtable_mesh.runtime.authorization.lookup import Found, Listing
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from pyairtable_mesh.runtime.authorization.roles import (
    Binding,
    BindingChange,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopeMode,
)
from pyairtable_mesh.runtime.authorization.scope_explanation import MissingGrant, explain_scoped, granting
from pyairtable_mesh.runtime.authorization.scope_lookup import ScopedLookup
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine
from pyairtable_mesh.runtime.authorization.snapshot import dump, load_scoped
from tests.contract.authorization import worlds
from tests.contract.authorization.definition import Definition
from tests.unit.authorization.estate import (
    CHAIN,
    GROUPS,
    LINKS,
    NOW,
    RECORDS,
    RESOURCES,
    ROLES,
    START,
    TENANT,
    USERS,
    WORKSPACE,
)

terms = st.one_of(
    st.just(Term()),
    st.sampled_from([NOW - 1, NOW, NOW + 1]).map(lambda moment: Term(expires=moment)),
    st.sampled_from(
        [
            *({"network": "10.0.0.0/8", **each} for each in ({}, {"address": "10.0.0.1"}, {"address": "192.168.0.1"})),
            {"address": "10.0.0.1"},
            {},
        ]
    ).map(lambda values: Term("in_network", values)),
)
members = st.one_of(
    st.builds(Relationship, st.sampled_from(GROUPS), st.just("member"), st.sampled_from(USERS), terms),
    st.builds(
        Relationship, st.sampled_from(GROUPS), st.just("member"), st.sampled_from(["group:g#member", "group:h#member"])
    ),
)
bindings = st.builds(
    Binding,
    st.sampled_from(["1", "2", "3", "4", "5", "6", "7", "8"]),
    st.sampled_from([*ROLES, "viewer", "editor", "rol1"]),
    st.sampled_from([*RESOURCES, *CHAIN]),
    st.sampled_from([*USERS, "user:*", *(f"{group}#member" for group in GROUPS)]),
    terms,
)
changes: st.SearchStrategy[ScopedChange] = st.one_of(
    members.map(Change),
    members.map(lambda each: Change(each, removed=True)),
    bindings.map(BindingChange),
    bindings.map(BindingChange),
    bindings.map(lambda each: BindingChange(each, removed=True)),
    st.builds(ModeChange, st.sampled_from([*RESOURCES[1:], *CHAIN]), st.sampled_from(ScopeMode)),
    st.builds(RoleChange, st.just("rol1"), st.sampled_from([frozenset({"record.update"}), None])),
    st.sampled_from(LINKS).map(lambda each: Change(each, removed=True)),
)
histories = st.lists(changes, min_size=8, max_size=30)
contexts = st.sampled_from([{}, {"address": "10.1.1.1"}, {"address": "1.1.1.1"}, {"network": "10.0.0.0/8"}])
QUESTIONS = [
    (resource, verb, subject)
    for resource in RESOURCES
    for verb in (["read", "update", "comment"] if resource.startswith("record") else ["read", "update"])
    for subject in [*USERS, "group:g#member", "user:nobody"]
]


@worlds.many
@given(histories, contexts)
def test_checks_agree_with_the_definition_at_every_revision(
    history: list[ScopedChange], context: dict[str, str]
) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    definition = Definition(TENANT, NOW, context)
    given = Circumstances(NOW, context)
    for revision, batch in enumerate([START, *([each] for each in history)]):
        engine.validate(batch)
        for change in batch:
            definition.apply(change)
        engine.apply(revision, batch)
        for target, verb, subject in QUESTIONS[revision % 3 :: 3]:
            permission = f"{target.partition(':')[0]}.{verb}"
            expected = Decision.of(definition.holds(subject, target, permission), revision)
            found = engine.check((target, verb, subject), given)
            assert found == expected
            if subject != "user:nobody":
                handles = engine.handle(subject), engine.permission(permission), engine.handle(target)
                sure = definition.at(NOW, {}).holds(subject, target, permission) is True
                assert engine.allowed(*handles, NOW) == sure


@worlds.many
@given(histories, contexts, st.integers(1, 2))
def test_lists_have_exactly_what_checks_allow_in_order_and_resume(
    history: list[ScopedChange], context: dict[str, str], limit: int
) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(1, [*START, *history])
    given = Circumstances(NOW, context)
    lookup = ScopedLookup(engine)

    def answer(target: str, subject: str) -> Found | None:
        decision = engine.check((target, "read", subject), given)
        return Found(target, decision.missing) if decision.allowed or decision.missing else None

    for subject in [*USERS, "group:g#member", "user:*", "user:nobody"]:
        expected = [found for target in RECORDS if (found := answer(target, subject))]

        def page(after: str, limit: int, subject: str = subject) -> Listing:
            return lookup.resources("record", "read", subject, given, after=after, limit=limit)

        assert page("", 0) == Listing(tuple(expected), complete=True)
        first = page("", limit)
        rest = [] if first.complete else page(first.resume, 0).entries
        assert [*first.entries, *rest] == expected
    for target in RESOURCES:
        listed = {each.reference: each for each in lookup.subjects(target, "read", "user", given).entries}
        for subject in [*USERS, "user:*", "user:nobody"]:
            found = answer(target, subject)
            everyone = listed.get("user:*")
            covered = everyone if everyone is not None and subject not in everyone.excluded else None
            entry = listed.get(subject, covered)
            assert (entry is None) == (found is None)
            assert bool(entry and entry.missing) == bool(found and found.missing)
        groups = lookup.subjects(target, "read", "group", given, usersets=True).entries
        of_groups = [(each, answer(target, each)) for each in (f"{group}#member" for group in GROUPS)]
        assert list(groups) == [Found(name, found.missing) for name, found in of_groups if found is not None]


@worlds.many
@given(histories, contexts)
def test_explanations_say_what_checks_say_and_their_grants_turn_denials_around(
    history: list[ScopedChange], context: dict[str, str]
) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(1, [*START, *history])
    given = Circumstances(NOW, context)
    for target, verb, subject in QUESTIONS[::2]:
        explanation = explain_scoped(engine, (target, verb, subject), given)
        assert explanation.decision == engine.check((target, verb, subject), given)
        assert bool(explanation.path) == explanation.decision.allowed
        named = granting(engine, (target, verb, subject), given)
        assert named == ([each.binding for each in explanation.path if each.binding] or [""])[-1]
        if explanation.path:
            bound = [each for each in explanation.path if each.kind == "role_binding"]
            assert all(engine.bindings[each.binding].resource == each.object for each in bound)
            assert explanation.path[-1].object == target
        if explanation.missing:
            assert decided(engine, explanation.missing, (target, verb, subject), given).allowed
            for index in range(len(explanation.missing)):
                fewer = [*explanation.missing[:index], *explanation.missing[index + 1 :]]
                assert not decided(engine, fewer, (target, verb, subject), given).allowed


def decided(
    engine: ScopedEngine, grants: Iterable[MissingGrant], question: tuple[str, str, str], given: Circumstances
) -> Decision:
    """The answer with more grants, which are taken back."""
    more = [Binding(f"more{index}", each.role, each.resource, question[2]) for index, each in enumerate(grants)]
    engine.apply(engine.revision, map(BindingChange, more))
    decision = engine.check(question, given)
    engine.apply(engine.revision, [BindingChange(each, removed=True) for each in more])
    return decision


@worlds.many
@given(st.lists(bindings.filter(lambda each: not each.term), max_size=6))
def test_without_modes_roles_say_what_relations_of_the_model_say(bound: list[Binding]) -> None:
    """A binding stands for a relationship to each permission: any tool that reads the model answers the same."""
    policy = product.policy()
    scoped, plain = ScopedEngine(policy, TENANT), RelationEngine(product.schema())
    bound = list({each.id: each for each in bound}.values())
    scoped.apply(1, [*START, *map(BindingChange, bound)])
    plain.apply(1, map(Change, [*LINKS, Relationship(WORKSPACE, "tenant", TENANT)]))
    plain.apply(2, (Change(each) for binding in bound for each in expanded(binding)))
    for target, verb, subject in QUESTIONS:
        found = plain.check((target, verb, subject), Circumstances(NOW))
        assert scoped.check((target, verb, subject), Circumstances(NOW)).allowed == found.allowed


def expanded(binding: Binding) -> Iterable[Relationship]:
    place = binding.resource.partition(":")[0]
    for permission in ROLES[binding.role]:
        kind, _, verb = permission.partition(".")
        if kind in product.policy().below(place):
            relation = verb if kind == place else f"{kind}_{verb}"
            yield Relationship(binding.resource, relation, binding.subject)


@worlds.many
@given(histories, contexts)
def test_a_snapshot_answers_as_the_engine_that_it_was_taken_from(
    history: list[ScopedChange], context: dict[str, str]
) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(7, [*START, *history])
    copy = load_scoped(dump(engine), product.policy())
    given = Circumstances(NOW, context)
    more: list[ScopedChange] = [Change(Relationship("group:g", "member", "user:c"))]
    for _ in range(2):
        assert [copy.check(each, given) for each in QUESTIONS] == [engine.check(each, given) for each in QUESTIONS]
        engine.apply(8, more)
        copy.apply(8, more)
