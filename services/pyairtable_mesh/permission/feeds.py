"""The last changes of a scope that is followed: whoever follows reads them here, so that many cost what one does.

A feed is led by `Engines`: by what this process commits, and by what it reads of the changelog for its engines or,
where it holds none, for the feed. It is believed for as long as it was compared with the database; a follower that
finds it unseen, or needs more than it keeps, reads the changelog itself, and learns there that the database is away.
"""

import time
from collections import deque
from collections.abc import Callable

from pyairtable_mesh.permission.changelog import Point, Tail
from pyairtable_mesh.permission.domain import Revision
from pyairtable_mesh.runtime.events import POLL_SECONDS
from pyairtable_mesh.runtime.signals import Signal

MOST_CHANGES = 1_000
"""How many changes a feed keeps, about 1 kB each."""
MOST_UNSEEN_SECONDS = 2 * POLL_SECONDS


class Feed:
    """The revisions behind `_oldest` up to `newest`, which is None until the changelog was read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.followers = 0
        self.moved = Signal()
        self.newest: int | None = None
        self.points: list[Point] = []
        """Where it was since the changelog was last seen to go there, too."""
        self.lost = 0
        """How often the database was put back: what followers have is of a history that is no more."""
        self.clock = clock
        self._seen = 0.0
        self._oldest = 0
        self._revisions: deque[Revision] = deque()
        self._changes = 0

    def since(self, after: int) -> Tail | None:
        """What came behind a revision; None where the changelog must be asked."""
        if self.newest is None or not self._oldest <= after <= self.newest:
            return None
        if self.clock() - self._seen > MOST_UNSEEN_SECONDS:
            return None
        return Tail(self.newest, [each for each in self._revisions if each.number > after], complete=True)

    def take(self, after: int, tail: Tail, seen: float, at: Point | None = None) -> None:
        """Take over what came behind a revision, if nothing is missing before it. `seen` is when the changelog was
        read, and `at` where that began, which a feed is begun with.
        """
        reached = tail.newest if tail.complete else tail.revisions[-1].number
        if self.newest is None:
            if tail.complete:
                self.newest = self._oldest = reached
                self.points = [at] if at is not None else []
        elif after <= self.newest < reached:
            for each in tail.revisions:
                if each.number > self.newest:
                    self._revisions.append(each)
                    self.points.append(Point(each.number, each.time))
                    self._changes += len(each.changes)
            self.newest = reached
            self._forget()
            self.moved.notify()
        if tail.complete and self.newest == reached:
            self._seen = max(seen, self._seen)

    def end(self) -> None:
        """Give up what is held: the database does not know it."""
        self.newest = None
        self.points = []
        self._revisions.clear()
        self._changes = 0
        self.moved.notify()

    def lose(self) -> None:
        """The same, and have followers begin anew: the database was put back."""
        self.lost += 1
        self.end()

    def _forget(self) -> None:
        while self._changes > MOST_CHANGES:
            gone = self._revisions.popleft()
            self._changes -= len(gone.changes)
            self._oldest = gone.number
