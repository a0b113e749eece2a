from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.filters import TIME, All, Either, Filter, Kind, Not, Operator, Restriction, parse
from pyairtable_mesh.user import filters
from pyairtable_mesh.user.domain import Status, folded
from pyairtable_mesh.user.filters import USER_FIELDS, USER_ORDERS, Order, Text

ACTIVE = Restriction("status", "=", Status.ACTIVE)
VERIFIED = Restriction("email_verified", "=", True)
ADA = Restriction("display_name", "=", Text("ada"))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", All()),
        ("  \n", All()),
        ("status = ACTIVE", ACTIVE),
        ('status="ACTIVE"', ACTIVE),
        ("status != ACTIVE", Restriction("status", "!=", Status.ACTIVE)),
        ("email_verified = true", VERIFIED),
        ("display_name = ADA", ADA),
        ("display_name = 'Ada'", ADA),
        ('display_name = "Ada*"', Restriction("display_name", "=", Text("ada", after=True))),
        ('email = "*@EXAMPLE.com"', Restriction("email", "=", Text("@example.com", before=True))),
        ("email = *exam*", Restriction("email", "=", Text("exam", before=True, after=True))),
        ("email = *", Restriction("email", "=", Text("", before=True))),
        (r'display_name = "a\"*b\\"', Restriction("display_name", "=", Text('a"*b\\'))),
        (
            'create_time >= "2026-11-23T14:30:00+01:00"',
            Restriction("create_time", ">=", datetime(2026, 11, 23, 13, 30, tzinfo=UTC)),
        ),
        ("status = ACTIVE AND email_verified = true", All((ACTIVE, VERIFIED))),
        ("status = ACTIVE OR email_verified = true", Either((ACTIVE, VERIFIED))),
        ("status = ACTIVE AND email_verified = true OR display_name = ada", All((ACTIVE, Either((VERIFIED, ADA))))),
        ("(status = ACTIVE AND email_verified = true) OR display_name = ada", Either((All((ACTIVE, VERIFIED)), ADA))),
        ("NOT status = ACTIVE", Not(ACTIVE)),
        ("-status = ACTIVE", Not(ACTIVE)),
        ("NOT (status = ACTIVE OR display_name = ada)", Not(Either((ACTIVE, ADA)))),
    ],
)
def test_a_filter_is_read(text: str, tree: Filter) -> None:
    assert parse(text, USER_FIELDS) == tree


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("name = x", 0, "expected a field"),
        ("status = active", 9, "INVITED, ACTIVE"),
        ("status =", 8, "INVITED, ACTIVE"),
        ("status ACTIVE", 7, "comparison"),
        ("status < ACTIVE", 7, "= and != only"),
        ("status : ACTIVE", 7, "no meaning"),
        ("email_verified = yes", 17, "true or false"),
        ("create_time > yesterday", 14, "RFC 3339"),
        ('create_time > "2026-11-23T14:30:00"', 14, "RFC 3339"),
        ('create_time > "0001-01-01T00:00:00+14:00"', 14, "RFC 3339"),
        ('display_name = "ada', 15, "not closed"),
        ("(status = ACTIVE", 16, "closing parenthesis"),
        ("status = ACTIVE)", 15, "the end"),
        ("status = ACTIVE email_verified = true", 16, "AND, OR"),
        ("status = ACTIVE AND", 19, "expected a field"),
        ("ada", 0, "expected a field"),
        ('"status" = ACTIVE', 0, "expected a field"),
        ("NOT NOT status = ACTIVE", 4, "expected a field"),
        ("(" * 17 + "status = ACTIVE" + ")" * 17, 17, "16 deep"),
        (" AND ".join(["status = ACTIVE"] * 51), 1000, "50 comparisons"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_the_place(text: str, position: int, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(text, USER_FIELDS)
    assert refused.value.reason == "FILTER_INVALID"
    assert refused.value.metadata == {"position": str(position)}
    assert refused.value.violations[0].field == "filter"
    assert words in refused.value.violations[0].description


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidArgument):
        parse(text, USER_FIELDS)


FOLDED = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=10).map(lambda text: folded(text.strip("*")))
TEXTS = st.builds(Text, FOLDED, st.booleans(), st.booleans()).filter(lambda text: text.value or not text.after)
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    USER_FIELDS["display_name"]: TEXTS,
    USER_FIELDS["status"]: st.sampled_from(Status),
    USER_FIELDS["email_verified"]: st.booleans(),
    TIME: st.datetimes(timezones=st.just(UTC)),
}


@st.composite
def restrictions(draw: st.DrawFn) -> Restriction:
    field, kind = draw(st.sampled_from(list(USER_FIELDS.items())))
    operators: list[Operator] = ["=", "!=", "<", "<=", ">", ">="]
    operator = draw(st.sampled_from(operators if kind.ordered else operators[:2]))
    return Restriction(field, operator, draw(VALUES[kind]))


def _joined(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return parts.map(Not) | several.map(All) | several.map(Either)


def _written(tree: Filter) -> str:
    match tree:
        case All(of=parts):
            return " AND ".join(f"({_written(part)})" for part in parts)
        case Either(of=parts):
            return " OR ".join(f"({_written(part)})" for part in parts)
        case Not(of=part):
            return f"NOT ({_written(part)})"
        case Restriction(value=Text() as text):
            escaped = "".join(f"\\{character}" if character in '\\"' else character for character in text.value)
            return f'{tree.field} {tree.operator} "{"*" * text.before}{escaped}{"*" * text.after}"'
        case Restriction():
            value = tree.value
            plain = f'"{value.isoformat()}"' if isinstance(value, datetime) else value
            return f"{tree.field} {tree.operator} {str(plain).lower() if isinstance(plain, bool) else plain}"


@given(st.recursive(restrictions(), _joined, max_leaves=12))
def test_what_is_written_is_read_back(tree: Filter) -> None:
    assert parse(_written(tree), USER_FIELDS) == tree


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ("", ()),
        ("display_name", (Order("display_name"),)),
        ("display_name desc,create_time", (Order("display_name", True), Order("create_time"))),
        (" email asc ,  update_time desc ", (Order("email"), Order("update_time", True))),
    ],
)
def test_an_order_is_read(text: str, orders: tuple[Order, ...]) -> None:
    assert filters.parse_order(text, USER_ORDERS) == orders


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("status", 0),
        ("nothing", 0),
        ("email down", 0),
        ("email,", 6),
        ("email, name", 6),
        ("email,email", 0),
        ("email,display_name,create_time,update_time", 0),
    ],
)
def test_an_order_that_cannot_be_read_is_refused_with_the_place(text: str, position: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        filters.parse_order(text, USER_ORDERS)
    assert refused.value.reason == "FILTER_INVALID"
    assert refused.value.metadata == {"position": str(position)}
