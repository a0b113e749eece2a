"""The part of the filtering language of AIP-160 that lists take, and `order_by` of AIP-132, as values.

::

    expression  = factor {"AND" factor}
    factor      = term {"OR" term}             OR binds closer than AND, as AIP-160 has it
    term        = ["NOT" | "-"] simple
    simple      = "(" expression ")" | restriction
    restriction = FIELD ("=" | "!=" | "<" | "<=" | ">" | ">=") VALUE

A text may begin or end with ``*``, and is folded: compared without regard to case and accents. Whoever stores the
rows turns the tree into its own conditions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Literal

from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument
from pyairtable_mesh.user.domain import Status, folded

_MAX_DEPTH = 16
_MAX_RESTRICTIONS = 50
_MAX_ORDERS = 3
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator><=|>=|!=|[=<>])
      | (?P<sign>[()-])
      | (?P<word>[^\s"'()=<>!,:-][^\s"'()=<>!,:]*)""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")
_ORDER = re.compile(r"\s*(?P<field>[a-z_]+)(?:\s+(?P<direction>asc|desc))?\s*")

Operator = Literal["=", "!=", "<", "<=", ">", ">="]


class Kind(Enum):
    """What a field holds, and so what it is compared with."""

    TEXT = "a text, in quotes when it holds more than letters and digits"
    STATUS = "one of INVITED, ACTIVE, SUSPENDED, DEACTIVATED"
    BOOLEAN = "true or false"
    TIME = 'a time as in RFC 3339, such as "2026-11-23T14:30:00Z"'


USER_FIELDS: Mapping[str, Kind] = {
    "display_name": Kind.TEXT,
    "email": Kind.TEXT,
    "status": Kind.STATUS,
    "email_verified": Kind.BOOLEAN,
    "create_time": Kind.TIME,
    "update_time": Kind.TIME,
}
GROUP_FIELDS: Mapping[str, Kind] = {
    "display_name": Kind.TEXT,
    "create_time": Kind.TIME,
    "update_time": Kind.TIME,
}


@dataclass(frozen=True, slots=True)
class Text:
    """A folded text to compare with; `before` and `after` say whether anything may stand there."""

    value: str
    before: bool = False
    after: bool = False


@dataclass(frozen=True, slots=True)
class Restriction:
    """One comparison of a field with a value of its kind."""

    field: str
    operator: Operator
    value: Text | Status | bool | datetime


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


@dataclass(frozen=True, slots=True)
class Order:
    """One field to sort by."""

    field: str
    descending: bool = False


def parse(text: str, fields: Mapping[str, Kind]) -> Filter:
    """The tree of a filter; `All()` of an empty one.

    InvalidArgument FILTER_INVALID, whose violation and metadata name the position (characters from 0).
    """
    parser = _Parser(text, fields)
    return parser.whole() if text.strip() else All()


def parse_order(text: str, fields: Mapping[str, Kind]) -> tuple[Order, ...]:
    """What to sort by, most important first; InvalidArgument FILTER_INVALID as `parse`."""
    orders: list[Order] = []
    position = 0
    for part in text.split(",") if text.strip() else ():
        matched = _ORDER.fullmatch(part)
        if matched is None:
            raise _invalid("order_by", position, "expected a field, and perhaps desc")
        if matched["field"] not in fields or fields[matched["field"]] not in {Kind.TEXT, Kind.TIME}:
            sortable = ", ".join(name for name, kind in fields.items() if kind in {Kind.TEXT, Kind.TIME})
            raise _invalid("order_by", position, f"cannot sort by {matched['field']}: it can be by {sortable}")
        orders.append(Order(matched["field"], matched["direction"] == "desc"))
        position += len(part) + 1
    if len({order.field for order in orders}) < len(orders) or len(orders) > _MAX_ORDERS:
        raise _invalid("order_by", 0, f"takes at most {_MAX_ORDERS} fields, each once")
    return tuple(orders)


def _invalid(field: str, position: int, words: str) -> InvalidArgument:
    description = f"at character {position}: {words}"
    return InvalidArgument(
        f"{field}: {description}",
        [FieldViolation(field, description, f"{field}.syntax")],
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
            raise _invalid("filter", at, words)
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
        return _invalid("filter", (token or self._peek()).at, words)

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
        for operator in ("=", "!=", "<", "<=", ">", ">=") if kind is Kind.TIME else ("=", "!="):
            if self._take(operator):
                return operator
        if self._peek().kind == "operator":
            raise self._error("this field is compared with = and != only")
        raise self._error("expected a comparison: a field, an operator, a value")

    def _value(self, kind: Kind) -> Text | Status | bool | datetime:
        token = self._peek()
        if token.kind not in {"word", "text"}:
            raise self._error(f"expected {kind.value}")
        self._next += 1
        try:
            return _value(kind, token)
        except (ValueError, KeyError, OverflowError):
            raise self._error(f"expected {kind.value}", token) from None


def _value(kind: Kind, token: _Token) -> Text | Status | bool | datetime:
    plain = token.text[1:-1] if token.kind == "text" else token.text
    match kind:
        case Kind.TEXT:
            return _text(plain)
        case Kind.STATUS:
            return Status(plain)
        case Kind.BOOLEAN:
            return {"true": True, "false": False}[plain]
        case _:
            return _time(plain)


def _text(raw: str) -> Text:
    before = raw.startswith("*")
    after = len(raw) > before and raw.endswith("*") and not raw.endswith("\\*")
    inner = raw[before : len(raw) - after]
    return Text(folded(_ESCAPED.sub(r"\1", inner)), before, after)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return moment.astimezone(UTC)
