"""What one evaluation of a condition may cost, known before it is made.

cel-expr-python bounds iterations (10,000 to an evaluation), but not the work in each. So the compiled expression is
walked with the sizes of the values that are given, for an upper bound in nanoseconds of an ordinary core: each node
counts as often as the macros around it are run, what reads a text counts with the text's length, and what macros and
``+`` build counts with the size that it can reach. A parameter is taken to be as large as all values together.

The numbers were measured, and rounded upwards; tests/contract/authorization/test_costs.py holds them against real time.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pyairtable_mesh.runtime.authorization.expressions import (
    Call,
    Constant,
    Kind,
    Literal,
    Loop,
    Name,
    Node,
    Select,
    nodes,
)

BUDGET = 10_000_000
"""Nanoseconds that one evaluation may take."""
ITERATIONS = 10_000
"""How often all macros of an evaluation run together before CEL itself ends it."""
_BASE, _NODE, _ITERATION = 10_000, 60, 100
PLAIN, PARSED = 600, 4_000
"""Per element of a list or map: to hand it over as it is, or as an address or time that a text is read for."""
_ELEMENT, _BYTE = 40, 2
_APPENDED = 20
"""Per element that is in a list already: each step of ``map`` and ``filter`` copies it."""
_KEY_BYTE = 20
"""A key that is not there is written into an error."""
_ADDRESS = 12_000
_ZONE = 5_000
_COMPILED, _MATCHED = 3_000, 5
"""Per byte of a pattern to compile it, and per byte of a pattern and byte of the text to match them."""
_REPEAT = re.compile(rb"\{(\d+)(?:,(\d*))?\}")
_MOST_REPEATS = 1_000
"""What RE2 refuses to go beyond, nested repetitions multiplied."""
_WIDE = 150
"""A class of Unicode's (``\\pL``) has so many times the states of another of its length."""
_CONTAINS = 1 / 64
_RENDERED = 64
"""How long a number, time or address is as a text."""
_FREE = frozenset({"_&&_", "_||_", "!_", "_?_:_", "@not_strictly_false", "dyn", "type"})
_JOINS = frozenset({"_+_", "_?_:_", "_[_]"})
ZONED = frozenset(
    f"get{part}"
    for part in (
        *("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "Hours", "Minutes", "Seconds"),
        "Milliseconds",
    )
)
"""Functions of a time that take the name of a time zone."""


class Size(NamedTuple):
    """How many elements a value has, nested ones counted, and how many bytes all its texts."""

    elements: int = 0
    text: int = 0

    def __add__(self, other: object) -> "Size":
        return Size(self.elements + other.elements, self.text + other.text) if isinstance(other, Size) else self

    def of(self, kind: Kind) -> "Size":
        """What of it a value of a kind can have."""
        if kind is Kind.SCALAR:
            return Size()
        return Size(0, self.text) if kind is Kind.TEXT else self


def largest(json_bytes: int) -> Size:
    """The largest that values can be which have so many bytes as JSON."""
    return Size(json_bytes // 2 + 1, json_bytes)


def measured(json: str) -> Size:
    """An upper bound of the size of values in JSON, which is all ASCII."""
    return Size(json.count(",") + json.count("]") + json.count("}"), len(json))


class Costs:
    """Bounds of one expression."""

    def __init__(self, tree: Node, handed: int) -> None:
        self._tree = tree
        self._handed = handed
        literals = b"".join(each.text or b"" for each in nodes(tree) if isinstance(each, Constant))
        self._built = _Pattern.of(literals)

    def bound(self, given: Size, json: str = "{\\p") -> int:
        """At most so many nanoseconds for values of a size; their JSON says what patterns can be built from them."""
        walk = _Walk(given, self._built.joined(_Pattern.of(json.encode())))
        return walk.cost(self._tree) + self._handed * given.elements


class _Pattern(NamedTuple):
    """How many states a pattern has for each of its bytes."""

    repeats: int
    wide: bool

    @classmethod
    def of(cls, text: bytes) -> "_Pattern":
        """Of a pattern that is made from pieces of a text, whatever the pieces."""
        return cls(_MOST_REPEATS if b"{" in text else 1, b"\\p" in text.lower())

    @property
    def states(self) -> int:
        return self.repeats * (_WIDE if self.wide else 1)

    def joined(self, other: "_Pattern") -> "_Pattern":
        return _Pattern(max(self.repeats, other.repeats), self.wide or other.wide)


def _states(pattern: bytes) -> int:
    """How many states a literal pattern has, about."""
    repeats = 1
    for found in _REPEAT.finditer(pattern):
        repeats = min(repeats * max(int(found[1]), int(found[2] or 0), 1), _MOST_REPEATS)
    return (len(pattern) + 2) * repeats * (_WIDE if _Pattern.of(pattern).wide else 1)


class _Walk:
    """One walk over a tree, adding up what its nodes cost."""

    def __init__(self, given: Size, built: _Pattern) -> None:
        self._given = given
        self._built = built
        self._cost = 0.0

    def cost(self, tree: Node) -> int:
        self._cost = _BASE + self._given.text * _BYTE
        # What an expression of an unknown type gives becomes a Python value.
        self._linear(self._size(tree, 1, {}), 1)
        return int(self._cost)

    def _linear(self, size: Size, times: int) -> None:
        self._cost += times * (size.elements * _ELEMENT + size.text * _BYTE)

    def _size(self, node: Node, times: int, scope: Mapping[str, Size]) -> Size:
        """The size of a node's value; what it costs is added up, for `times` evaluations."""
        self._cost += times * _NODE
        match node:
            case Constant():
                size = Size(0, len(node.text or b""))
            case Name():
                size = scope.get(node.name, self._given)
            case Select():
                size = self._size(node.operand, times, scope)
            case Call():
                size = self._called(node, [self._size(each, times, scope) for each in node.arguments], times)
            case Literal():
                size = sum((self._size(each, times, scope) for each in node.children), Size(len(node.children)))
                self._cost += times * len(node.children) * _ELEMENT
            case _:
                size = self._looped(node, times, scope)
        return size.of(node.kind)

    def _called(self, call: Call, sizes: list[Size], times: int) -> Size:
        total = sum(sizes, Size())
        match call.function:
            case "matches":
                pattern = call.arguments[-1]
                known = pattern.text if isinstance(pattern, Constant) else None
                states = _states(known) if known is not None else (sizes[-1].text + 2) * self._built.states
                self._cost += times * states * (_COMPILED + sizes[0].text * _MATCHED)
            case "contains":
                self._linear(total, times)
                self._cost += times * sizes[0].text * sizes[-1].text * _CONTAINS
            case "in_cidr" | "ipaddress":
                self._cost += times * _ADDRESS
                self._linear(total, times)
            case "_[_]":
                self._cost += times * sizes[-1].text * _KEY_BYTE
                return sizes[0]
            case "@in" if call.arguments[-1].kind is Kind.MAP:
                self._linear(sizes[0], times)
            case name if name in ZONED:
                self._cost += times * _ZONE
            case name if name not in _FREE:
                self._linear(total, times)
        return total if call.function in _JOINS else total + Size(0, _RENDERED)

    def _looped(self, loop: Loop, times: int, scope: Mapping[str, Size]) -> Size:
        looped = self._size(loop.range, times, scope)
        count = min(looped.elements, ITERATIONS)
        steps = min(times * count, ITERATIONS)
        first = self._size(loop.first, times, scope)
        # What a macro makes of an element does not know what it has made of others: each step adds the same.
        inside = {**scope, loop.variable: looped, loop.accumulator: Size()}
        grown = self._size(loop.step, steps, inside)
        made = first + Size(count * grown.elements, count * grown.text)
        self._cost += steps * (_ITERATION + made.elements * _APPENDED)
        inside[loop.accumulator] = made
        self._size(loop.condition, steps, inside)
        return self._size(loop.result, times, inside)
