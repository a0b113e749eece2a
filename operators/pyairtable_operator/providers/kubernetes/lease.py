"""Which replica writes: the one that holds a Lease, as client-go's leader election has it.

All replicas serve; this only keeps two from writing the same. Clocks of machines are never compared: another's Lease
has expired when it was not seen to change for its duration on the clock here.
"""

import dataclasses
import datetime
import logging
from collections.abc import Callable
from typing import Protocol

DURATION_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
"""A holder that could not renew for so long stops to write, well before another may begin."""
STEP_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """What a Lease object says. An empty holder has released it; `version` is the object's resourceVersion."""

    holder: str
    duration: int
    acquired: datetime.datetime
    renewed: datetime.datetime
    transitions: int = 0
    version: str = ""


class Store(Protocol):
    """Where the Lease is kept."""

    async def read(self) -> Lease | None:
        """Return the Lease, None when there is none. Raises OSError when it can't be told."""

    async def write(self, lease: Lease) -> Lease | None:
        """Replace the version that `lease` was made from, or create it when that is empty.

        Return it with its new version, None when another was quicker. Raises OSError when it can't be done.
        """


class Election:
    """One replica's part. `clock` is monotonic, in seconds; `now` is what the Lease shows to people."""

    def __init__(
        self,
        store: Store,
        identity: str,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self._store = store
        self._identity = identity
        self._clock = clock
        self._now = now
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica may write now."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + RENEW_DEADLINE_SECONDS

    async def step(self) -> None:
        """Take the Lease if it is free, or renew it. Raises OSError; what is held then is held until its deadline."""
        began = self._clock()
        found = await self._store.read()
        if found != self._seen:
            self._seen, self._seen_at = found, self._clock()
        if self._taken(found):
            self._lose()
            return
        written = await self._store.write(self._renewal(found))
        if written is None:
            self._lose()
            return
        if self._renewed_at is None:
            _log.info("this replica writes", extra={"identity": self._identity})
        self._seen, self._seen_at, self._renewed_at = written, began, began

    async def release(self) -> None:
        """Let another replica take over at once. Raises OSError."""
        if self._renewed_at is None or self._seen is None:
            return
        self._renewed_at = None
        # Other implementations want a duration even of what is released.
        await self._store.write(dataclasses.replace(self._seen, holder="", duration=1, renewed=self._now()))

    def _taken(self, lease: Lease | None) -> bool:
        if lease is None or lease.holder in ("", self._identity):
            return False
        return self._clock() < self._seen_at + lease.duration

    def _renewal(self, before: Lease | None) -> Lease:
        now = self._now()
        if before is None:
            return Lease(self._identity, DURATION_SECONDS, now, now)
        if before.holder == self._identity:
            return dataclasses.replace(before, duration=DURATION_SECONDS, renewed=now)
        return Lease(self._identity, DURATION_SECONDS, now, now, before.transitions + 1, before.version)

    def _lose(self) -> None:
        if self._renewed_at is not None:
            _log.warning("another replica writes", extra={"identity": self._identity})
        self._renewed_at = None
