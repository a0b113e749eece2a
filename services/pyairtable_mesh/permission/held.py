"""What a process holds of a scope: a state, where it was since the database was looked at, how much that may be."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from pyairtable_mesh.permission.changelog import Point
from pyairtable_mesh.permission.domain import Changed
from pyairtable_mesh.runtime.errors import ResourceExhausted

MOST_FACTS = 5_000_000
"""How many relationships, bindings and names the engines hold together; about 150 bytes each."""
REASONS = ("room", "schema", "history", "fault")
"""Why an engine is given up: for others, for another schema, because the database was put back, or after a fault."""


class State(Protocol):
    """What is held of a scope: it is at a revision, and can be led to another."""

    @property
    def revision(self) -> int:
        """The revision that it is at."""
        ...

    @property
    def weight(self) -> int:
        """How many facts and names it holds."""
        ...

    made: datetime | None
    """When the revision was made; None where that is not known, or it changed nothing."""

    def apply(self, revision: int, changes: Sequence[Changed], made: datetime | None = None) -> None:
        """Take over the changes that lead to a revision; `changelog.ExpiredError` where it must be loaded anew."""
        ...


S = TypeVar("S", bound=State)


@dataclass(slots=True)
class Tally:
    """What the engines of a process have done since it began; `load_seconds` are those of all loads together."""

    loads: int = 0
    load_seconds: float = 0.0
    forgotten: Counter[str] = field(default_factory=Counter)
    """Engines that were given up, by the reason: one of `REASONS`."""
    failures: int = 0
    """Times that the changelog could not be followed, as a whole or of one scope."""


class Held(Generic[S]):
    """What is held of a tenant: the present and, where somebody asked for it, one state of the past."""

    def __init__(self, present: S, seen: float) -> None:
        self.present = present
        self.seen = seen
        """When the present was known to be the newest state, in seconds of the engines' clock."""
        self.newest = present.revision
        """The newest revision that the database was seen at."""
        self.points = [self.point]
        """Where it was since the changelog was last seen to go there, too; one at least."""
        self.past: S | None = None
        self.catching_up = asyncio.Lock()
        self.looking_back = asyncio.Lock()

    @property
    def point(self) -> Point:
        """Where the present is."""
        return Point(self.present.revision, self.present.made)

    def moved(self) -> None:
        """Keep in mind where it is now."""
        if self.point != self.points[-1]:
            self.points.append(self.point)

    def replace(self, present: S) -> None:
        """Hold another present, loaded anew; what is known of the past may not be of its history."""
        self.present, self.past = present, None
        self.points = [self.point]

    @property
    def weight(self) -> int:
        """How many facts and names are held, the past's included."""
        return self.present.weight + (self.past.weight if self.past else 0)


def require_room(weight: int, most: int) -> None:
    """ResourceExhausted for a state, as far as it was loaded, that is larger than all engines together may be."""
    if weight > most:
        words = f"one scope alone has more than {most} facts and names: raise PYAIRTABLE_ENGINE_FACTS"
        raise ResourceExhausted(words, reason="STATE_TOO_LARGE", metadata={"limit": str(most)})
