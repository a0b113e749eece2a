"""Long work on the event loop: done in slices, with a turn for others in between, and not without end."""

import asyncio
from time import perf_counter

from pyairtable_mesh.runtime.errors import ResourceExhausted

SLICE_SECONDS = 0.01
MOST_SECONDS = 10.0
"""How long the slices of one request may be together."""


class Turn:
    """One request's turns at the event loop, the first of which begins now."""

    def __init__(self) -> None:
        self._left = MOST_SECONDS
        self._begun = perf_counter()

    @property
    def over(self) -> bool:
        """Whether others have waited for long enough."""
        return perf_counter() - self._begun >= SLICE_SECONDS

    async def pass_on(self) -> None:
        """Let others go first; ResourceExhausted EVALUATION_LIMIT for a request that has had all its time."""
        self._left -= perf_counter() - self._begun
        if self._left < 0:
            words = f"the request takes more than {MOST_SECONDS:g} s to answer: ask for less at once"
            raise ResourceExhausted(words, reason="EVALUATION_LIMIT")
        await asyncio.sleep(0)
        self._begun = perf_counter()
