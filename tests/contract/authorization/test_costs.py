"""No evaluation of a condition takes longer than it may, whatever the expression; ordinary ones are answered."""

import gc
import re
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from pyairtable_mesh.runtime.authorization import costs
from pyairtable_mesh.runtime.authorization.conditions import Conditions
from pyairtable_mesh.runtime.authorization.facts import Term, Verdict
from pyairtable_mesh.runtime.authorization.language.errors import SchemaError
from pyairtable_mesh.runtime.authorization.language.syntax import Condition, ParameterType, Schema
from pyairtable_mesh.runtime.authorization.programs import MAX_CONTEXT_BYTES
from pyairtable_mesh.runtime.errors import InvalidArgument, ResourceExhausted

SLACK = 5
"""How much slower than the core that the bounds were measured on this one may be, with company."""
PARAMETERS = {
    "n": ParameterType("int"),
    "s": ParameterType("string"),
    "t": ParameterType("string"),
    "l": ParameterType("list", ParameterType("int")),
    "texts": ParameterType("list", ParameterType("string")),
    "addresses": ParameterType("list", ParameterType("ipaddress")),
    "durations": ParameterType("list", ParameterType("duration")),
    "m": ParameterType("map", ParameterType("string")),
    "d": ParameterType("any"),
    "a": ParameterType("ipaddress"),
    "at": ParameterType("timestamp"),
    "gap": ParameterType("duration"),
}
TIME = "2026-01-01T00:00:00Z"
LONG = MAX_CONTEXT_BYTES - 100


def test_cel_itself_ends_what_iterates_more_often_than_the_bound_counts_with() -> None:
    assert evaluated(nested("l.all", 2, "true"), {"l": [1] * 90}) is True
    assert evaluated(nested("l.all", 2, "true"), {"l": [1] * 150}) == "EVALUATION_LIMIT"


def test_a_refusal_names_the_condition() -> None:
    with pytest.raises(ResourceExhausted, match="the condition c costs more than it may") as refused:
        conditions("l.all(x, l.all(y, l.all(z, x > y + z)))").evaluate(Term("c", {"l": [1] * 100}), {})
    assert refused.value.metadata["path"] == "c"


def conditions(expression: str) -> Conditions:
    used = {name: kind for name, kind in PARAMETERS.items() if re.search(rf"\b{name}\b", expression)}
    found = Conditions(Schema({}, {"c": Condition("c", used, expression)}))
    found.compile()
    return found


def evaluated(expression: str, context: dict[str, Any]) -> Verdict | str:
    """The answer, or the reason of the refusal; in either case within the time that an evaluation may take."""
    found = conditions(expression)
    gc.disable()  # the collector's time is spent on the whole process
    begun = thread_time()
    try:
        return found.evaluate(Term("c"), context)
    except (ResourceExhausted, InvalidArgument) as error:
        return error.reason
    finally:
        gc.enable()
        assert (thread_time() - begun) * 1e9 < costs.BUDGET * SLACK


def nested(macro: str, depth: int, body: str) -> str:
    return f"{macro}(x, " * depth + body + ")" * depth


def doubled(text: str, times: int) -> str:
    """An expression for a text of ``2**times`` times the length."""
    return f"[{doubled(text, times - 1)}].map(x, x + x)[0]" if times else text


@pytest.mark.parametrize(
    ("expression", "context"),
    [
        ("l.all(x, " + " && ".join(["n>9"] * 900) + ")", {"l": [1] * 4000, "n": 10}),
        (nested("l.all", 4, "x > 0"), {"l": [1] * 1000}),
        ("l.all(x, " + " && ".join(["a.in_cidr('10.0.0.0/8')"] * 100) + ")", {"l": [1] * 1000, "a": "10.0.0.1"}),
        ("l.all(x, !s.matches('(a|b)*c.*(d|e)+'))", {"l": [1] * 3000, "s": "a" * 20_000}),
        ("s.matches(t)", {"s": "a" * (LONG // 2), "t": "a" * (LONG // 2)}),
        ("s.matches(t + t)", {"s": "ab" * (LONG // 3), "t": "(a|b)*a(a|b)" + "{200}" + "c"}),
        ("s.matches('(a|b)*a(a|b){900}c')", {"s": "ab" * (LONG // 3)}),
        (r"s.matches('[\\pL\\pN]{100}')", {"s": "b"}),
        ("size(l.map(x, x)) > 0", {"l": [1] * 9000}),
        ("size(texts.filter(x, x != '')) > 0", {"texts": ["a"] * 5000}),
        ("size(l.map(x, l.map(y, [x, y]))) > 0", {"l": [1] * 300}),
        (doubled("s", 9) + ".size() > 0", {"s": "a" * LONG}),
        ("(" + " + ".join([doubled("s", 7)] * 8) + ").size() > 0", {"s": "a" * LONG}),
        (nested("[1, 2, 3, 4].map", 10, "x") + " == []", {}),
        ("texts.all(x, texts.all(y, (x + y).contains(y + x) || true))", {"texts": ["a" * 300] * 90}),
        ("l.all(x, s.contains(t) || true)", {"l": [1] * 1000, "s": "a" * 10_000, "t": "a" * 5000 + "b"}),
        ("l.all(x, size(s + s + s) > 0)", {"l": [1] * 3000, "s": "a" * 20_000}),
        ("l.all(x, m[s] == 'a' || true)", {"l": [1] * 1000, "s": "a" * 20_000, "m": {}}),
        ("l.all(x, l == l)", {"l": [1] * 5000}),
        ("l.all(x, {'a': x, 'b': l, 'c': [l, l]} == {'a': x, 'b': l, 'c': [l, l]})", {"l": [1] * 4000}),
        ("l.all(x, d == d)", {"l": [1] * 1000, "d": {str(each): [each] for each in range(1000)}}),
        ("m.all(k, m.all(j, m[k] == m[j] || true))", {"m": {str(each): "a" for each in range(1000)}}),
        ("l.all(x, timestamp('2026-01-01T00:00:00Z') < at || true)", {"l": [1] * 9000, "at": TIME}),
        ("addresses.all(x, x != '')", {"addresses": ["::1"] * 4500}),
        ("durations.all(x, x < duration('1h'))", {"durations": ["1s"] * 5000}),
    ],
)
def test_hostile_expressions_are_refused_before_they_are_evaluated(expression: str, context: dict[str, Any]) -> None:
    assert evaluated(expression, context) == "EVALUATION_LIMIT"


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"n": "1" * 30_000}, "n"),
        ({"gap": "1" * 30_000}, "gap"),
        ({"gap": "1h" * 10_000}, "gap"),
        ({"at": TIME * 1000}, "at"),
        ({"a": "1." * 10_000}, "a"),
    ],
)
def test_long_texts_are_read_as_no_number_time_or_address(context: dict[str, Any], words: str) -> None:
    assert evaluated(f"{words} == {words}", context) == "INVALID_CONTEXT"


@pytest.mark.parametrize(
    ("expression", "context"),
    [
        ("n >= 9 && n < 17", {"n": 10}),
        ("a.in_cidr('10.0.0.0/8')", {"a": "10.1.2.3"}),
        ("texts.exists(x, a.in_cidr(x))", {"texts": ["192.168.0.0/24"] * 99 + ["10.0.0.0/8"], "a": "10.1.2.3"}),
        ("s in texts", {"s": "b", "texts": ["a" * 30] * 100 + ["b"]}),
        ("s == t", {"s": "a" * (LONG // 2), "t": "a" * (LONG // 2)}),
        ("at < timestamp('2026-01-01T00:00:00Z') + gap", {"at": TIME, "gap": "10m"}),
        ("at.getHours('Europe/Berlin') < 17 && at.getDayOfWeek('+01:00') > 0", {"at": TIME}),
        ("at.getHours(s) < 17", {"at": TIME, "s": "Europe/Berlin"}),
        ("s.matches('^[a-z0-9._%+-]+@[a-z0-9.-]+[.][a-z]{2,}$')", {"s": "somebody@some.example.com"}),
        (
            "texts.exists(x, s.startsWith(x))",
            {"s": "projects/alpha/one", "texts": ["projects/b"] * 300 + ["projects/a"]},
        ),
        ("l.all(x, x > 0)", {"l": [1] * 5000}),
        ("size(texts.filter(x, x == 'a')) == 100", {"texts": ["a"] * 100}),
        ("l.all(x, l.all(y, x <= y + 1))", {"l": [1] * 90}),
        ("texts.all(x, x in m)", {"texts": ["a"] * 100, "m": {"a": "b"}}),
        ("d.department == 'sales' && d.level >= 3", {"d": {"department": "sales", "level": 3}}),
    ],
)
def test_ordinary_conditions_are_answered(expression: str, context: dict[str, Any]) -> None:
    assert evaluated(expression, context) is True


@pytest.mark.parametrize("zone", ["'/dev/stdin'", "'../../etc/passwd'", "'file:/dev/stdin'", "s + t", "texts[0]"])
def test_a_time_zone_names_no_file_of_a_model_writer(zone: str) -> None:
    with pytest.raises(SchemaError, match="a time zone is a known name"):
        conditions(f"at.getHours({zone}) > 1")


@pytest.mark.parametrize("zone", ["/dev/stdin", "../../etc/passwd", "file:/dev/stdin", "Mars/Base", ""])
def test_a_time_zone_names_no_file_of_a_caller(zone: str) -> None:
    assert evaluated("at.getHours(s) >= 0", {"at": TIME, "s": zone}) == "INVALID_CONTEXT"


TEXTS = st.recursive(
    st.sampled_from(["s", "t", "x", "'a'", "string(n)", "string(l[0])"]),
    lambda below: st.one_of(
        st.tuples(below, below).map(lambda each: f"({each[0]} + {each[1]})"),
        below.map(lambda each: f"texts.map(x, {each})[0]"),
        below.map(lambda each: f"string(bytes({each}))"),
    ),
    max_leaves=6,
)
LEAVES = st.one_of(
    st.sampled_from(["n > 1", "a.in_cidr('10.0.0.0/8')", "at > timestamp(s)", "gap < duration(t)", "l == l", "d == d"]),
    st.tuples(TEXTS, st.sampled_from(["==", "<", "!="]), TEXTS).map(" ".join),
    st.tuples(TEXTS, st.sampled_from(["contains", "startsWith", "endsWith", "matches"]), TEXTS).map(
        lambda each: f"{each[0]}.{each[1]}({each[2]})"
    ),
    TEXTS.map(lambda each: f"{each} in texts"),
    TEXTS.map(lambda each: f"m[{each}] == 'a'"),
    TEXTS.map(lambda each: f"size({each}) > int({each})"),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.tuples(
            st.sampled_from(["texts.all", "texts.exists", "m.all", "texts.exists_one", "l.map(y, string(y)).all"]),
            below,
        ).map(lambda each: f"{each[0]}(x, ({each[1]}) || true)"),
        below.map(lambda each: f"size(texts.filter(x, {each})) >= 0"),
        st.tuples(below, st.sampled_from(["&&", "||"]), below).map(lambda each: f"(({each[0]}) {each[1]} ({each[2]}))"),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    EXPRESSIONS,
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.sampled_from(["a", "ab", "(a|b)*", "a{99}", "é"]),
    st.integers(1, 9),
)
def test_no_combination_of_expression_and_sizes_takes_longer(
    expression: str, elements: int, length: int, piece: str, width: int
) -> None:
    text = (piece * length)[:length]
    context = {
        "n": 1,
        "s": text,
        "t": text[: length // 2] + "b",
        "l": [1] * elements,
        "texts": [piece * width] * elements,
        "m": {str(each): piece for each in range(elements // 2)},
        "d": {"deep": [text] * 3},
        "a": "10.0.0.1",
        "at": TIME,
        "gap": "1h",
    }
    try:
        evaluated(f"[t].all(x, {expression})", context)
    except SchemaError:
        reject()
