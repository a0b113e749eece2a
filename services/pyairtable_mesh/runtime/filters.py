"""The part of the filtering language of AIP-160 that list methods take, as a tree.

::

    expression  = factor {"AND" factor}
    factor      = term {"OR" term}             OR binds closer than AND, as AIP-160 has it
    term        = ["NOT" | "-"] simple
    simple      = "(" expression ")" | restriction
    restriction = FIELD ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE

A service names its fields and what they hold; its store turns the tree into conditions with `condition`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Literal, assert_never

from sqlalchemy import ColumnElement, and_, not_, or_, true

from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument

_MAX_DEPTH = 16
_MAX_RESTRICTIONS = 50
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator><=|>=|!=|[=<>])
      | (?P<sign>[()-])
      | (?P<word>[^\s"'()=<>!,:-][^\s"'()=<>!,:]*)""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
_EQUAL: tuple[Operator, ...] = ("=", "!=")
_ORDERED: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field holds: `words` say it to whoever wrote something else, `read` turns a literal into a value.

    `read` raises ValueError for what is none; `ordered` fields take all six operators, others = and != only.
    """

    words: str
    read: Callable[[str], object]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Restriction:
    """One comparison of a field with a value of its kind."""

    field: str
    operator: Operator
    value: object


@dataclass(frozen=True, slots=True)
class Not:
    """True where `of` is not."""

    of: "Filter"


@dataclass(frozen=True, slots=True)
class All:
    """True where all of it is; empty, everywhere."""

    of: tuple["Filter", ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """True where some of it is."""

    of: tuple["Filter", ...]


Filter = Restriction | Not | All | Either


def parse(text: str, fields: Mapping[str, Kind]) -> Filter:
    """The tree of a filter; `All()` of an empty one.

    InvalidArgument FILTER_INVALID, whose violation and metadata name the position (characters from 0).
    """
    parser = _Parser(text, fields)
    return parser.whole() if text.strip() else All()


def _invalid(position: int, words: str) -> InvalidArgument:
    description = f"at character {position}: {words}"
    return InvalidArgument(
        f"filter: {description}",
        [FieldViolation("filter", description, "filter.syntax")],
        reason="FILTER_INVALID",
        metadata={"position": str(position)},
    )


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Sequence[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            words = "the quotes are not closed" if text[at] in "\"'" else f"{text[at]!r} has no meaning here"
            raise _invalid(at, words)
        if matched.lastgroup != "space":
            tokens.append(_Token(matched.lastgroup or "", matched[0], at))
        at = matched.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent over one filter; a parser is used once."""

    def __init__(self, text: str, fields: Mapping[str, Kind]) -> None:
        self._tokens = _tokens(text)
        self._fields = fields
        self._next = 0
        self._depth = 0
        self._restrictions = 0

    def whole(self) -> Filter:
        tree = self._expression()
        if self._peek().kind != "end":
            raise self._error("expected AND, OR or the end")
        return tree

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> bool:
        """Step over the next token if it is one of these, unquoted."""
        found = self._peek().kind != "text" and self._peek().text in texts
        self._next += found
        return found

    def _error(self, words: str, token: _Token | None = None) -> InvalidArgument:
        return _invalid((token or self._peek()).at, words)

    def _expression(self) -> Filter:
        parts = [self._factor()]
        while self._take("AND"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _factor(self) -> Filter:
        parts = [self._term()]
        while self._take("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _term(self) -> Filter:
        return Not(self._simple()) if self._take("NOT", "-") else self._simple()

    def _simple(self) -> Filter:
        if not self._take("("):
            return self._restriction()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"parentheses go at most {_MAX_DEPTH} deep")
        inner = self._expression()
        if not self._take(")"):
            raise self._error("expected AND, OR or a closing parenthesis")
        self._depth -= 1
        return inner

    def _restriction(self) -> Restriction:
        self._restrictions += 1
        if self._restrictions > _MAX_RESTRICTIONS:
            raise self._error(f"a filter has at most {_MAX_RESTRICTIONS} comparisons")
        field = self._peek()
        if field.kind != "word" or field.text not in self._fields:
            raise self._error(f"expected a field, one of {', '.join(self._fields)}")
        self._next += 1
        kind = self._fields[field.text]
        operator = self._operator(kind)
        return Restriction(field.text, operator, self._value(kind))

    def _operator(self, kind: Kind) -> Operator:
        for operator in _ORDERED if kind.ordered else _EQUAL:
            if self._take(operator):
                return operator
        if self._peek().kind == "operator":
            raise self._error("this field is compared with = and != only")
        raise self._error("expected a comparison: a field, an operator, a value")

    def _value(self, kind: Kind) -> object:
        token = self._peek()
        if token.kind not in {"word", "text"}:
            raise self._error(f"expected {kind.words}")
        self._next += 1
        plain = _ESCAPED.sub(r"\1", token.text[1:-1]) if token.kind == "text" else token.text
        if "\0" in plain:  # PostgreSQL has no such character
            raise self._error(f"expected {kind.words}", token)
        try:
            return kind.read(plain)
        except (ValueError, OverflowError):
            raise self._error(f"expected {kind.words}", token) from None


def read_time(literal: str) -> datetime:
    """An aware UTC datetime from RFC 3339; ValueError without a time zone."""
    moment = datetime.fromisoformat(literal)
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return moment.astimezone(UTC)


TIME = Kind('a time as in RFC 3339, such as "2026-11-23T14:30:00Z"', read_time, ordered=True)
TEXT = Kind("a text, in quotes when it holds more than letters and digits", str)


def condition(tree: Filter, columns: Mapping[str, ColumnElement[Any]]) -> ColumnElement[bool]:
    """The tree over the columns that hold its fields."""
    match tree:
        case All(of=parts):
            return and_(true(), *(condition(part, columns) for part in parts))
        case Either(of=parts):
            return or_(*(condition(part, columns) for part in parts))
        case Not(of=part):
            return not_(condition(part, columns))
        case Restriction(field, operator, value):
            return _COMPARISONS[operator](columns[field], value)
    assert_never(tree)


_COMPARISONS: Mapping[Operator, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}
