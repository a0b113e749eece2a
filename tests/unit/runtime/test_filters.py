import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, column
from sqlalchemy.dialects import sqlite

from pyairtable_mesh.runtime import filters
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.filters import TEXT, TIME, All, Either, Kind, Not, Restriction, parse

FIELDS = {"name": TEXT, "actor.subject": TEXT, "at": TIME, "n": Kind("a number", int, ordered=True)}
A = Restriction("name", "=", "a")
B = Restriction("name", "!=", "b")
N = Restriction("n", ">=", 3)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", All()),
        ("  ", All()),
        ("name = a", A),
        ('name="a"', A),
        ("name = 'a'", A),
        (r'name = "a\"b"', Restriction("name", "=", 'a"b')),
        ('actor.subject = "user:usr1"', Restriction("actor.subject", "=", "user:usr1")),
        ('name = "AND"', Restriction("name", "=", "AND")),
        ("n >= 3", N),
        ('at < "2026-11-23T13:00:00+01:00"', Restriction("at", "<", datetime(2026, 11, 23, 12, tzinfo=UTC))),
        ("name = a AND name != b", All((A, B))),
        ("name = a AND name != b OR n >= 3", All((A, Either((B, N))))),
        ("(name = a AND name != b) OR n >= 3", Either((All((A, B)), N))),
        ("NOT name = a", Not(A)),
        ("-(name = a)", Not(A)),
    ],
)
def test_what_is_written_and_what_it_means(text: str, tree: filters.Filter) -> None:
    assert parse(text, FIELDS) == tree


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("nonsense", 0),
        ("other = 1", 0),
        ("name", 4),
        ("name =", 6),
        ("name < a", 5),
        ("n = x", 4),
        ('at > "2026-11-23T13:00:00"', 5),
        ("name = a name = b", 9),
        ("(name = a", 9),
        ("name = a)", 8),
        ('name = "a', 7),
        ("name = a AND", 12),
        ("name : a", 5),
        ('name = "\0"', 7),
        ("(" * 30, 17),
        (" AND ".join(["name = a"] * 60), 650),
    ],
)
def test_what_is_wrong_is_refused_where_it_is(text: str, position: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(text, FIELDS)
    assert refused.value.reason == "FILTER_INVALID"
    assert refused.value.metadata == {"position": str(position)}


@given(st.text(alphabet=st.sampled_from("name=andNOTR()-<>!\"'\\ 1\0é"), max_size=40) | st.text(max_size=40))
def test_whatever_is_written_is_a_tree_or_an_invalid_argument(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        parse(text, FIELDS)


def test_a_tree_becomes_a_condition() -> None:
    columns: dict[str, ColumnElement[Any]] = {name: column(name) for name in FIELDS}
    condition = filters.condition(parse("NOT name = a AND (n >= 3 OR n < 1)", FIELDS), columns)
    compiled = condition.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    assert str(compiled) == "name != 'a' AND (n >= 3 OR n < 1)"
