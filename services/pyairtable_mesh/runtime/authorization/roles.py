"""Roles as data, where they are bound, and how resources take permissions from their parents."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from math import inf

from pyairtable_mesh.runtime.authorization.facts import ALWAYS, Change, Term

OWNER = "owner"
"""The role whose permissions nothing reduces."""


class ScopeMode(Enum):
    """How a resource takes permissions from its parent; the definitions are in scopes.py."""

    INHERIT = "inherit"
    RESTRICT = "restrict"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A role by its id, with its permissions as ``type.verb``; None removes it."""

    role: str
    permissions: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Binding:
    """A role that a subject has at a resource and below, under a term; `id` is any text that names it alone."""

    id: str
    role: str
    resource: str
    subject: str
    term: Term = ALWAYS


@dataclass(frozen=True, slots=True)
class BindingChange:
    """A binding that is stored (one of the same id is replaced) or removed."""

    binding: Binding
    removed: bool = False


@dataclass(frozen=True, slots=True)
class ModeChange:
    """The scope mode of a resource; INHERIT is the same as none."""

    resource: str
    mode: ScopeMode


ScopedChange = Change | RoleChange | BindingChange | ModeChange


class Expiries:
    """The moments at which something expires: between two of them nothing changes by time alone."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    def add(self, term: Term | None) -> None:
        """Count a term that is stored."""
        if term is not None and term.expires is not None:
            insort(self._moments, term.expires)

    def extend(self, terms: Iterable[Term]) -> None:
        """Count many terms that are stored."""
        self._moments += [each.expires for each in terms if each.expires is not None]
        self._moments.sort()

    def remove(self, term: Term | None) -> None:
        """Count a term that is stored no longer."""
        if term is not None and term.expires is not None:
            del self._moments[bisect_left(self._moments, term.expires)]

    def around(self, now: float) -> tuple[float, float]:
        """(begin, end) of the span around a time, begin inclusive, in which nothing expires."""
        index = bisect_right(self._moments, now)
        begin = self._moments[index - 1] if index else -inf
        return begin, self._moments[index] if index < len(self._moments) else inf
