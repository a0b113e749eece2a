"""Long work on the event loop: done in slices, with a turn for others in between, and not without end."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import TypeVar

from pyairtable_mesh.permission.held import S
from pyairtable_mesh.permission.usecases.consistency import States
from pyairtable_mesh.runtime.errors import ResourceExhausted

Q = TypeVar("Q")
A = TypeVar("A")
SLICE_SECONDS = 0.01
MOST_SECONDS = 10.0
"""How long the slices of one request may be together."""


class Turn:
    """One request's turns at the event loop, the first of which begins now."""

    def __init__(self) -> None:
        self._left = MOST_SECONDS
        self.begin()

    def begin(self) -> None:
        """Begin now: what was waited for until here cost nobody else anything."""
        self._begun = perf_counter()
        self.end = self._begun + SLICE_SECONDS
        """When others have waited for long enough, by `perf_counter`."""

    @property
    def over(self) -> bool:
        """Whether that is now."""
        return perf_counter() >= self.end

    async def pass_on(self) -> None:
        """Let others go first; ResourceExhausted EVALUATION_LIMIT for a request that has had all its time."""
        self._left -= perf_counter() - self._begun
        if self._left < 0:
            words = f"the request takes more than {MOST_SECONDS:g} s to answer: ask for less at once"
            raise ResourceExhausted(words, reason="EVALUATION_LIMIT")
        await asyncio.sleep(0)
        self.begin()


async def answered(
    states: States[S],
    scope: str,
    seen: AbstractAsyncContextManager[S],
    questions: Sequence[Q],
    asking: Callable[[S], Callable[[Q], A]],
) -> tuple[list[A], int]:
    """The answers to all questions from the state that is `seen`, and its revision. `asking` gives what answers from a
    state, which is held for one turn only.
    """
    found, turn = list[A](), Turn()
    while True:
        async with seen as state:
            turn.begin()
            revision, answer = state.revision, asking(state)
            for question in questions[len(found) :]:
                found.append(answer(question))
                if perf_counter() >= turn.end:  # `over`, without a call for each of many
                    break
        if len(found) == len(questions):
            return found, revision
        await turn.pass_on()
        seen = states.at(scope, revision)
