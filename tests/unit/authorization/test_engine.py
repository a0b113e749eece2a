"""Bounds, conditions, what bad input gets, snapshots that are damaged, and what importing the core costs."""

import subprocess
import sys
from typing import Any

import pytest

from pyairtable_mesh.runtime.authorization import product
from pyairtable_mesh.runtime.authorization.explanation import expand
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Limits, Relationship, Term
from pyairtable_mesh.runtime.authorization.language.errors import SchemaError
from pyairtable_mesh.runtime.authorization.language.parser import parse
from pyairtable_mesh.runtime.authorization.lookup import lookup_resources, lookup_subjects
from pyairtable_mesh.runtime.authorization.relations import RelationEngine
from pyairtable_mesh.runtime.authorization.roles import RoleChange
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine
from pyairtable_mesh.runtime.authorization.snapshot import SnapshotError, dump, load_relations, load_scoped
from pyairtable_mesh.runtime.errors import InvalidArgument, ResourceExhausted

NOW = Circumstances(100.0)
MODEL = """model
  schema 1.1
type user
type folder
  relations
    define parent: [folder]
    define blocked: [user]
    define viewer: [user, user:*, folder#viewer] or viewer from parent
    define reader: viewer but not blocked
"""


def engine(*relationships: str, limits: Limits = Limits()) -> RelationEngine:  # noqa: B008
    found = RelationEngine(parse(MODEL), limits)
    found.apply(1, [Change(Relationship(*each.replace("@", "#", 1).split("#", 2))) for each in relationships])
    return found


def conditional(parameters: str, expression: str) -> RelationEngine:
    text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user with c]\n"
    found = RelationEngine(parse(f"{text}condition c({parameters}) {{ {expression} }}"))
    found.apply(1, [Change(Relationship("doc:1", "viewer", "user:a", Term("c")))])
    return found


@pytest.mark.parametrize(
    ("parameters", "expression", "context", "expected"),
    [
        ("x: int", "x == 9007199254740993", {"x": "9007199254740993"}, True),
        ("x: int", "x > 1", {"x": 2.0}, True),
        ("x: uint", "x == 2u", {"x": 2}, True),
        ("x: double", "x > 1.5", {"x": 2}, True),
        ("x: duration", "x > duration('59m')", {"x": "1h"}, True),
        ("x: timestamp", "x < timestamp('2026-01-02T00:00:00Z')", {"x": "2026-01-01T00:00:00Z"}, True),
        ("x: ipaddress", "x.in_cidr('192.168.0.0/24')", {"x": "192.168.0.9"}, True),
        ("x: ipaddress", "x.in_cidr('2001:db8::/32')", {"x": "2001:db8::1"}, True),
        ("x: map<string>", "x['a'] == 'b'", {"x": {"a": "b"}}, True),
        ("x: list<string>", "'b' in x", {"x": ["a"]}, False),
        ("x: any", "x.deep == 'b'", {"x": {"deep": "b"}}, True),
        ("x: bool, y: bool", "x || y", {"x": True}, True),
        ("x: bool, y: bool", "x && y", {"x": False}, False),
        ("x: bool, y: bool", "x && y", {"x": True}, {"y"}),
        ("x: bool, y: bool", "x && y", {}, {"x", "y"}),
        ("x: map<string>", "x['a'] == 'b'", {"x": {}}, False),
    ],
)
def test_conditions(parameters: str, expression: str, context: dict[str, Any], expected: object) -> None:
    decision = conditional(parameters, expression).check(("doc:1", "viewer", "user:a"), Circumstances(0.0, context))
    assert (set(decision.missing) or decision.allowed) == expected


def test_what_conditions_of_the_product_cost_counts_as_steps() -> None:
    inside = Term("in_network", {"network": "10.0.0.0/8"})
    found = ScopedEngine(product.policy(), "tenant:t", Limits(steps=1_000))
    groups = [Change(Relationship(f"group:{n}", "member", "user:a", inside)) for n in range(500)]
    found.apply(1, [RoleChange("viewer", frozenset({"base.read"})), *groups])
    few = ScopedEngine(product.policy(), "tenant:t", Limits(steps=1_000))
    few.apply(1, [RoleChange("viewer", frozenset({"base.read"})), *groups[:2]])
    asked, given = ("base:b", "read", "user:a"), Circumstances(0.0, {"address": "10.1.1.1"})
    few.check(asked, given)
    assert not few.check(asked, given).allowed
    with pytest.raises(ResourceExhausted, match="more conditions than it may evaluate"):
        found.effective("tenant:t", "user:a", given)


@pytest.mark.parametrize(
    ("parameters", "context"),
    [
        ("x: int", {"x": "a"}),
        ("x: int", {"x": 1.5}),
        ("x: int", {"x": 1 << 63}),
        ("x: uint", {"x": -1}),
        ("x: bool", {"x": 1}),
        ("x: string", {"x": 1}),
        ("x: timestamp", {"x": "yesterday"}),
        ("x: timestamp", {"x": "2026-01-01T00:00:00"}),
        ("x: duration", {"x": "1 hour"}),
        ("x: ipaddress", {"x": "10.0.0"}),
        ("x: list<int>", {"x": [1, "b"]}),
        ("x: string", {"x": "a" * 40_000}),
    ],
)
def test_context_of_another_type_or_too_large_is_refused(parameters: str, context: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        conditional(parameters, "x == x").check(("doc:1", "viewer", "user:a"), Circumstances(0.0, context))
    assert caught.value.reason == "INVALID_CONTEXT"


def test_a_condition_that_costs_too_much_is_an_error_and_no_denial() -> None:
    costly = conditional("x: list<int>", "x.all(a, x.all(b, x.all(c, a + b + c >= 0)))")
    with pytest.raises(ResourceExhausted):
        costly.check(("doc:1", "viewer", "user:a"), Circumstances(0.0, {"x": list(range(200))}))


def test_what_conditions_cost_counts_as_steps() -> None:
    text = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define parent: [doc with c]\n"
    costly = RelationEngine(
        parse(f"{text}    define viewer: [user] or viewer from parent\ncondition c(x: list<int>) {{ x.all(a, a > 0) }}")
    )
    links = [Relationship("doc:0", "parent", f"doc:{n}", Term("c")) for n in range(1, 1_000)]
    costly.apply(1, map(Change, links))
    assert not costly.check(("doc:0", "viewer", "user:a"), Circumstances(0.0, {"x": [0]})).allowed
    with pytest.raises(ResourceExhausted, match="steps"):
        costly.check(("doc:0", "viewer", "user:a"), Circumstances(0.0, {"x": [1] * 2_000}))


@pytest.mark.parametrize("expression", ["x +", "y == 1", "x + 1"])
def test_an_expression_that_is_no_condition_is_refused_with_its_schema(expression: str) -> None:
    with pytest.raises(SchemaError, match="the expression of 'c'"):
        conditional("x: int", expression)


def test_what_is_nested_too_deep_is_an_error_with_the_path_and_no_denial() -> None:
    deep = engine(*(f"folder:{n}#parent@folder:{n + 1}" for n in range(150)), "folder:150#viewer@user:a")
    with pytest.raises(ResourceExhausted) as caught:
        deep.check(("folder:0", "viewer", "user:a"), NOW)
    assert caught.value.reason == "EVALUATION_LIMIT"
    assert caught.value.metadata["path"].startswith("folder:0#viewer folder:1#viewer")
    assert deep.check(("folder:60", "viewer", "user:a"), NOW).allowed


def test_what_is_too_broad_is_an_error_too() -> None:
    links = [f"folder:0#viewer@folder:{n}#viewer" for n in range(1, 100)]
    with pytest.raises(ResourceExhausted):
        engine(*links, limits=Limits(steps=50)).check(("folder:0", "viewer", "user:a"), NOW)


@pytest.mark.parametrize("limits", [Limits(list_steps=30), Limits(steps=15)])
def test_a_list_that_takes_too_many_steps_ends_early_and_can_be_resumed(limits: Limits) -> None:
    shared = [f"folder:{n}#viewer@user:a" for n in range(10)]
    limited = engine(*shared, "folder:0#blocked@user:a", limits=limits)
    found, after = list[str](), ""
    for _ in range(20):
        part = lookup_resources(limited, "folder", "reader", "user:a", NOW, after=after)
        found += [each.reference for each in part.entries]
        if part.complete:
            break
        after = part.resume
    assert after
    assert found == [f"folder:{n}" for n in range(1, 10)]


def test_who_is_in_a_large_set_takes_no_check_for_each() -> None:
    members = [f"folder:1#viewer@user:{n}" for n in range(2_000)]
    large = engine(*members, "folder:2#parent@folder:1", limits=Limits(steps=10))
    assert len(lookup_subjects(large, "folder:2", "viewer", "user", NOW).entries) == len(members)


def test_usersets_are_listed_without_the_wildcard_of_their_type() -> None:
    text = "model\n  schema 1.1\ntype user\ntype team\n  relations\n    define member: [user, team:*, team#member]\n"
    teams = RelationEngine(parse(text))
    facts = [("team:a", "member", "team:*"), ("team:a", "member", "team:b#member")]
    teams.apply(1, [Change(Relationship(*each)) for each in facts])
    usersets = lookup_subjects(teams, "team:a", "member", "team", NOW, subject_relation="member").entries
    assert [each.reference for each in usersets] == ["team:b#member"]
    assert [each.reference for each in lookup_subjects(teams, "team:a", "member", "team", NOW).entries] == ["team:*"]


def test_a_cycle_ends_and_its_parts_answer_alike_in_any_order() -> None:
    looped = engine("folder:1#parent@folder:2", "folder:2#parent@folder:1", "folder:2#viewer@user:a")
    batch = looped.batch([(f"folder:{n}", "reader", user) for n in (1, 2) for user in ("user:a", "user:b")], NOW)
    assert [each.allowed for each in batch] == [True, False, True, False]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("links", "viewers", "expected"),
    [
        (["1>2", "2>3"], "123", {1: True, 2: False, 3: True}),
        (["1>1"], "1", {1: False}),
        (["1>2", "2>1"], "12", {1: False, 2: False}),
        (["1>2", "2>1"], "1", {1: True, 2: False}),
        (["1>2", "2>3", "3>1"], "123", {1: False, 2: False, 3: False}),
        (["1>2", "2>1", "2>3"], "123", {1: True, 2: False, 3: True}),
    ],
)
def test_what_hangs_on_its_own_denial_is_denied(links: list[str], viewers: str, expected: dict[int, bool]) -> None:
    text = MODEL.replace(
        "reader: viewer but not blocked", "reader: blocked but not less\n    define less: [user] or reader from parent"
    )
    looped = RelationEngine(parse(text))
    facts = [Relationship(f"folder:{each[0]}", "parent", f"folder:{each[2]}") for each in links]
    facts += [Relationship(f"folder:{each}", "blocked", "user:a") for each in viewers]
    looped.apply(1, map(Change, facts))
    for folder, allowed in expected.items():
        assert looped.check((f"folder:{folder}", "reader", "user:a"), NOW).allowed == allowed, folder


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (("file:1", "viewer", "user:a"), "UNKNOWN_TYPE"),
        (("folder:1", "owner", "user:a"), "UNKNOWN_RELATION"),
        (("folder:1", "viewer", "robot:a"), "UNKNOWN_TYPE"),
        (("folder", "viewer", "user:a"), "MALFORMED_REFERENCE"),
        (("folder:*", "viewer", "user:a"), "MALFORMED_REFERENCE"),
        (("folder:1", "viewer", "user:a b"), "MALFORMED_REFERENCE"),
        (("folder:1", "viewer", "folder:1#owner"), "UNKNOWN_RELATION"),
    ],
)
def test_bad_questions_are_refused_and_leave_no_names(question: tuple[str, str, str], reason: str) -> None:
    small = engine("folder:1#viewer@user:a")
    names = len(small.graph.names)
    with pytest.raises(InvalidArgument) as caught:
        small.check(question, NOW)
    assert caught.value.reason == reason
    assert len(small.graph.names) == names


@pytest.mark.parametrize(
    ("relationship", "field"),
    [
        (Relationship("folder:1", "reader", "user:a"), "changes[0].subject"),
        (Relationship("folder:1", "blocked", "user:*"), "changes[0].subject"),
        (Relationship("folder:1", "viewer", "user:a", Term("c")), "changes[0].condition"),
        (Relationship("file:1", "viewer", "user:a"), "changes[0].resource"),
    ],
)
def test_relationships_that_the_schema_does_not_admit_are_refused(relationship: Relationship, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        engine().validate([Change(relationship)])
    assert caught.value.violations[0].field == field


def test_expansion_shows_how_subjects_combine_and_where_it_stops() -> None:
    tree = expand(
        engine("folder:1#viewer@user:a", "folder:1#parent@folder:2", "folder:2#viewer@user:*"),
        "folder:1",
        "reader",
        0.0,
    )
    assert tree.operation == "exclusion"
    viewer, blocked = tree.children
    assert (viewer.operation, viewer.name) == ("union", "folder:1#viewer")
    assert viewer.children[0].subjects == ("user:a",)
    assert viewer.children[1].children[0].name == "folder:2#viewer"
    assert blocked.subjects == ()
    loop = expand(engine("folder:1#parent@folder:1"), "folder:1", "viewer", 0.0)
    assert loop.children[1].children[0].truncated


@pytest.mark.parametrize(
    ("target", "reason"),
    [("cake:1", "UNKNOWN_TYPE"), ("cake", "UNKNOWN_TYPE"), ("folder", "MALFORMED_REFERENCE"), ("", "UNKNOWN_TYPE")],
)
def test_expansion_of_what_the_schema_does_not_have_is_refused(target: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        expand(engine(), target, "viewer", 0.0)
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, "resource")


def test_a_snapshot_that_is_damaged_cut_or_of_another_schema_is_refused() -> None:
    small = engine("folder:1#viewer@user:a", "folder:1#viewer@user:*", "folder:2#viewer@folder:1#viewer")
    data = dump(small)
    copy = load_relations(data, small.schema)
    assert set(copy.graph.relationships()) == set(small.graph.relationships())
    assert copy.check(("folder:2", "viewer", "user:z"), NOW).allowed
    for broken in (data[:-1], data[:40], b"", data.replace(b"user:a", b"user:b"), b"XXXX" + data[4:]):
        with pytest.raises(SnapshotError):
            load_relations(broken, small.schema)
    with pytest.raises(SnapshotError, match="another schema"):
        load_scoped(data, product.policy())


def test_who_only_checks_imports_neither_the_grammar_nor_cel() -> None:
    program = (
        "import sys; from pyairtable_mesh.runtime.authorization import RelationEngine, load_scoped, product;"
        "product.schema(); print(sorted({'lark', 'cel_expr_python', 'grpc', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_roles_give_cannot_be_written_as_a_relationship() -> None:
    scoped = ScopedEngine(product.policy(), "tenant:t")
    scoped.apply(1, [Change(Relationship("table:a", "base", "base:a"))])
    for relationship, reason in (
        (Relationship("table:a", "read", "user:a"), "UNKNOWN_RELATION"),
        (Relationship("workspace:a", "tenant", "tenant:u"), "UNKNOWN_RELATION"),
        (Relationship("table:a", "base", "base:b"), "RESOURCE_HAS_PARENT"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            scoped.validate([Change(relationship)])
        assert caught.value.reason == reason
