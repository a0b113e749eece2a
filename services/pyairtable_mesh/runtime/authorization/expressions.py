"""The tree of a compiled CEL expression, read back from what cel-expr-python serializes: a ``cel.expr.CheckedExpr``.

Its messages (https://github.com/google/cel-spec, ``proto/cel/expr``) are in none of the packages that are here anyway,
and only a few of their fields are of interest: they are read from the wire format.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_SCALARS = frozenset(range(1, 5))
_TEXTS = frozenset({5, 6})
_TIMES = frozenset({2, 3})
Field = int | bytes


class Kind(Enum):
    """What the size of a value is about."""

    SCALAR = "scalar"
    TEXT = "text"
    MAP = "map"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `text` are the bytes of a string or of bytes, None for anything else."""

    kind: Kind
    text: bytes | None


@dataclass(frozen=True, slots=True)
class Name:
    """A parameter, or a variable of a macro."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """``operand.field`` or ``has(operand.field)``."""

    kind: Kind
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator; what a method is called on is its first argument."""

    kind: Kind
    function: str
    arguments: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Literal:
    """A list, map or message, with what it is made of."""

    kind: Kind
    children: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Loop:
    """What a macro stands for: `step` is made for each element of `range`, with `variable` as the element."""

    kind: Kind
    variable: str
    range: "Node"
    accumulator: str
    first: "Node"
    condition: "Node"
    step: "Node"
    result: "Node"


Node = Constant | Name | Select | Call | Literal | Loop


def read(serialized: bytes) -> Node:
    """The tree of a serialized expression; it is as deep as CEL's parser allows (32)."""
    checked = _first(serialized, 2)  # of a google.protobuf.Any
    types = {_number(entry, 1): _kind(_first(entry, 2)) for entry in _all(checked, 3)}
    return _Reader(types).node(_first(checked, 4))


def nodes(tree: Node) -> Iterator[Node]:
    """A tree's nodes."""
    yield tree
    match tree:
        case Select():
            below: tuple[Node, ...] = (tree.operand,)
        case Call():
            below = tree.arguments
        case Literal():
            below = tree.children
        case Loop():
            below = (tree.range, tree.first, tree.condition, tree.step, tree.result)
        case _:
            below = ()
    for each in below:
        yield from nodes(each)


@dataclass(frozen=True, slots=True)
class _Reader:
    types: Mapping[int, Kind]

    def node(self, expression: bytes) -> Node:
        """The node of an ``Expr``: its id, and one field that says what it is."""
        kind = self.types.get(_number(expression, 2), Kind.OTHER)
        tag, body = next(((tag, value) for tag, value in _fields(expression) if isinstance(value, bytes)), (3, b""))
        match tag:
            case 3:
                texts = (value for number, value in _fields(body) if number in {6, 7} and isinstance(value, bytes))
                return Constant(kind, next(texts, None))
            case 4:
                return Name(kind, _first(body, 1).decode())
            case 5:
                return Select(kind, self.node(_first(body, 1)))
            case 6:
                arguments = (*_all(body, 1), *_all(body, 3))
                return Call(kind, _first(body, 2).decode(), tuple(map(self.node, arguments)))
            case 7 | 8:
                parts = (part for entry in _all(body, 2) for part in (*_all(entry, 3), *_all(entry, 4)))
                return Literal(kind, tuple(map(self.node, _all(body, 1) if tag == 7 else parts)))  # noqa: PLR2004
            case _:
                variable, accumulator = _first(body, 1).decode(), _first(body, 3).decode()
                looped, first, condition, step, result = (self.node(_first(body, each)) for each in (2, 4, 5, 6, 7))
                return Loop(kind, variable, looped, accumulator, first, condition, step, result)


def _kind(described: bytes) -> Kind:
    """The kind of a ``Type``."""
    for number, value in _fields(described):
        primitive, well_known = number == 3 and value, number == 5 and value  # noqa: PLR2004 # numbers of fields
        if primitive in _SCALARS or well_known in _TIMES or number == 2:  # noqa: PLR2004 # null
            return Kind.SCALAR
        if primitive in _TEXTS:
            return Kind.TEXT
        if number == 7:  # noqa: PLR2004
            return Kind.MAP
    return Kind.OTHER


def _first(message: bytes, number: int) -> bytes:
    return next(iter(_all(message, number)), b"")


def _all(message: bytes, number: int) -> list[bytes]:
    return [value for each, value in _fields(message) if each == number and isinstance(value, bytes)]


def _number(message: bytes, number: int) -> int:
    return next((value for each, value in _fields(message) if each == number and isinstance(value, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """The fields of a message in the wire format (https://protobuf.dev/programming-guides/encoding/)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        size = _FIXED.get(wire, 0)
        if wire == _BYTES:
            size, at = _varint(message, at)
        if wire == _BYTES:
            yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:  # noqa: PLR2004 # the bit that says whether more follows
            return value, at
