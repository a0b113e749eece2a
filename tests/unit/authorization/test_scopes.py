"""Roles and scope modes, case by case; tests/contract/authorization holds them to their definition."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from pyairtable_mesh.runtime.authorization import product
from pyairtable_mesh.runtime.authorization.facts import (
    Change,
    Circumstances,
    Decision,
    Limits,
    Relationship,
    Term,
    Verdict,
)
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.lookup import Found, Listing
from pyairtable_mesh.runtime.authorization.roles import Binding, BindingChange, ModeChange, ScopedChange, ScopeMode
from pyairtable_mesh.runtime.authorization.scope_expansion import expand_scoped
from pyairtable_mesh.runtime.authorization.scope_explanation import explain_scoped, granting
from pyairtable_mesh.runtime.authorization.scope_lookup import ScopedLookup
from pyairtable_mesh.runtime.authorization.scope_rules import Held, Missing, combine
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine
from pyairtable_mesh.runtime.authorization.verdicts import both, either, negation
from pyairtable_mesh.runtime.errors import InvalidArgument
from tests.unit.authorization.estate import LINKS, NOW, START, TENANT, WORKSPACE, scope_modes


def test_the_document_is_that_of_the_model() -> None:
    assert product.make_document() == (Path(product.__file__).parent / "model.json").read_bytes()
    assert parse(product.source()) == product.schema()


def test_a_list_whose_steps_are_spent_ends_there_and_can_be_resumed() -> None:
    engine = ScopedEngine(product.policy(), TENANT, Limits(list_steps=1))
    engine.apply(1, [*START, BindingChange(Binding("1", "viewer", TENANT, "user:a"))])
    lookup = ScopedLookup(engine)
    first = lookup.resources("record", "read", "user:a", Circumstances(NOW))
    assert first == Listing((Found("record:1"),), complete=False, resume="record:1")
    rest = lookup.resources("record", "read", "user:a", Circumstances(NOW), after=first.resume)
    assert [each.reference for each in rest.entries] == ["record:2"]


def test_questions_about_what_is_not_known_leave_nothing_behind() -> None:
    engine, given = ScopedEngine(product.policy(), TENANT), Circumstances(NOW)
    engine.apply(1, START)
    names = len(engine.graph.names)
    for who, where in (("user:new", "base:new"), ("user:new", "base:a"), ("user:a", "base:new")):
        question = (where, "read", who)
        assert not engine.check(question, given).allowed
        assert engine.effective(where, who, given) == ((), {})
        assert granting(engine, question, given) == ""
        assert not explain_scoped(engine, question, given).decision.allowed
        assert not ScopedLookup(engine).resources("record", "read", who, given).entries
    assert len(engine.graph.names) == names


def test_a_move_is_one_write_and_children_move_along() -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(1, [*START, BindingChange(Binding("1", "viewer", "base:b", "user:a"))])
    given = Circumstances(NOW)
    assert not engine.check(("record:1", "read", "user:a"), given).allowed
    move = [Change(LINKS[2], removed=True), Change(Relationship("table:a", "base", "base:b"))]
    engine.validate(move)
    engine.apply(2, move)
    assert engine.check(("record:1", "read", "user:a"), given) == Decision(True, 2)
    with pytest.raises(InvalidArgument) as caught:
        engine.validate([Change(Relationship("table:a", "base", "base:a"))])
    assert caught.value.reason == "RESOURCE_HAS_PARENT"


def test_exceptions_are_the_children_with_something_of_their_own() -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(1, [*START, ModeChange("record:2", ScopeMode.RESTRICT)])
    assert engine.exceptions("table:a", "record") == ["record:2"]
    assert engine.exceptions("table:none", "record") == []


def test_expansion_shows_how_scope_modes_combine_bindings() -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    bound = [Binding("1", "viewer", "table:a", "user:a"), Binding("2", "editor", "base:a", "group:g#member")]
    engine.apply(1, [*START, *map(BindingChange, bound), ModeChange("table:a", ScopeMode.RESTRICT)])
    tree = expand_scoped(engine, "table:a", "read", NOW, depth=2)
    reduced, owners = tree.children
    assert (tree.operation, reduced.operation, owners.subjects) == ("union", "intersection", ())
    assert reduced.children[0].subjects == ("user:a",)
    above = reduced.children[1]
    assert (above.name, above.children[0].subjects) == ("base:a#table.read", ("group:g#member",))
    assert above.children[1].truncated


@scope_modes
@pytest.mark.parametrize("subject", ["user:a", "user:*", "group:g#member"])
def test_scope_modes(mode: str, own: str, above: str, subject: str, *, may_read: bool, may_delete: bool) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    given = [("table:a", own), (WORKSPACE, above)]
    bound = [BindingChange(Binding(place, role, place, subject)) for place, role in given if role]
    joined = Change(Relationship("group:g", "member", "user:a"))
    engine.apply(1, [*START, *bound, joined, ModeChange("table:a", ScopeMode(mode))])
    assert engine.check(("record:1", "read", "user:a"), Circumstances(NOW)).allowed == may_read
    assert engine.check(("record:1", "delete", "user:a"), Circumstances(NOW)).allowed == may_delete


OFFICE = Term("in_network", {"network": "10.0.0.0/8"})


@pytest.mark.parametrize(
    ("changes", "context", "failed"),
    [
        (
            [
                BindingChange(Binding("1", "viewer", WORKSPACE, "user:a")),
                BindingChange(Binding("2", "rol2", "base:a", "user:a", OFFICE)),
                ModeChange("base:a", ScopeMode.OVERRIDE),
            ],
            {},
            {"2": {"address"}},
        ),
        (
            [
                BindingChange(Binding("1", "viewer", WORKSPACE, "group:h#member")),
                Change(Relationship("group:h", "member", "user:a", Term(expires=NOW - 1))),
                Change(Relationship("group:h", "member", "group:g#member")),
                Change(Relationship("group:g", "member", "user:a", OFFICE)),
            ],
            {},
            {"group:g#member@user:a": {"address"}},
        ),
        (
            [
                BindingChange(Binding("1", "viewer", WORKSPACE, "group:h#member")),
                Change(Relationship("group:h", "member", "user:a", OFFICE)),
                Change(Relationship("group:h", "member", "group:g#member")),
                Change(Relationship("group:g", "member", "user:a", Term("in_network"))),
            ],
            {"address": "192.168.0.1"},
            {"group:h#member@user:a": set(), "group:g#member@user:a": {"network"}},
        ),
    ],
    ids=["what may override", "behind an expired membership", "on every way"],
)
def test_an_explanation_tells_of_every_condition_that_the_answer_hangs_on(
    changes: list[ScopedChange], context: dict[str, str], failed: dict[str, set[str]]
) -> None:
    engine = ScopedEngine(product.policy(), TENANT)
    engine.apply(1, [*START, *changes])
    explained = explain_scoped(engine, ("base:a", "read", "user:a"), Circumstances(NOW, context))
    assert explained.decision.missing == set[str]().union(*failed.values())
    assert {each.carrier: each.missing for each in explained.failed} == failed


@pytest.mark.parametrize("mode", ScopeMode)
def test_what_is_held_and_what_is_missing_for_it_is_what_the_definition_combines(mode: ScopeMode) -> None:
    """Every two grants of a permission, of another or of the owner's role, on every verdict from above."""
    verdicts: list[Verdict] = [True, frozenset("a"), frozenset("b")]
    grants = [(mask, False, holds) for mask in (0b01, 0b10) for holds in verdicts] + [(0b11, True, frozenset("c"))]
    aboves: list[Verdict] = [False, True, frozenset("d")]
    for own in [[], *([each] for each in grants), *combinations(grants, 2)]:
        for above in aboves:
            missing = Missing()
            missing.add(0b01, above)
            held = combine(mode, own, Held(int(above is True), int(above is not False), False), 0b11, missing)
            found = held.sure & 1 or missing(1) if held.possible & 1 else False
            assert found == defined(mode, own, above), (own, above)


def defined(mode: ScopeMode, own: Iterable[tuple[int, bool, Verdict]], above: Verdict) -> Verdict:
    """The first permission by the definition of scopes.py."""
    gives: Verdict = False
    present: Verdict = False
    owner: Verdict = False
    for mask, owns, holds in own:
        present = either(present, holds)
        gives = either(gives, holds if mask & 1 else False)
        owner = either(owner, holds if owns else False)
    inherited = both(negation(present), above)
    ways = {
        ScopeMode.INHERIT: either(gives, above),
        ScopeMode.RESTRICT: both(gives, above),
        ScopeMode.OVERRIDE: either(both(present, gives), inherited),
    }
    return either(ways[mode], owner)
