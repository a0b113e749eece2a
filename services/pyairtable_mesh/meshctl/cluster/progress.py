"""Tells what becomes of a release's workloads while Helm waits for them: a line for each change."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pyairtable_mesh.meshctl.cluster.workloads import Workload
from pyairtable_mesh.meshctl.findings import Finding
from pyairtable_mesh.meshctl.problems import Problem

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 20.0
"""After so long without a line it is said what is still waited for."""
Answer = TypeVar("Answer")
Say = Callable[[Finding], None]


class Progress:
    """Remembers what was told, so that each thing is told once. `clock` is monotonic, in seconds."""

    def __init__(self, say: Say, before: Sequence[Workload] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._begun = self._last = clock()
        self._told: set[tuple[str, str]] = set()
        self._unchanged = {workload.title: workload.generation for workload in before if workload.settled}
        self._ready: set[str] = set()

    def look(self, workloads: Sequence[Workload]) -> None:
        """Tell what is new: a workload that has become ready, a pod that cannot."""
        for workload in workloads:
            if workload.settled and workload.title not in self._ready:
                if self._unchanged.get(workload.title) == workload.generation:
                    continue
                self._ready.add(workload.title)
                self._tell(Finding("ok", workload.title, f"{_counts(workload)} ready after {self._elapsed():.0f} s"))
            for trouble in workload.troubles:
                if trouble.reason and (workload.title, key := f"{trouble.pod} {trouble.cause}") not in self._told:
                    self._told.add((workload.title, key))
                    self._tell(Finding("warn", workload.title, str(trouble), trouble.next_step))
        waited_for = [workload for workload in workloads if not workload.settled]
        if waited_for and self._clock() - self._last >= PATIENCE_SECONDS:
            names = ", ".join(f"{workload.title} {_counts(workload)}" for workload in waited_for)
            self._tell(Finding("ok", "waiting", f"for {names}, {self._elapsed():.0f} s so far"))

    def finish(self, workloads: Sequence[Workload]) -> None:
        """Tell the rest when it has come to a good end: what was ready all the time, too."""
        self._unchanged, unchanged = {}, self._unchanged
        for workload in workloads:
            if workload.settled and unchanged.get(workload.title) == workload.generation:
                self._ready.add(workload.title)
                self._tell(Finding("ok", workload.title, f"{_counts(workload)} ready, and unchanged"))
        self.look(workloads)

    def _tell(self, finding: Finding) -> None:
        self._last = self._clock()
        self._say(finding)

    def _elapsed(self) -> float:
        return self._clock() - self._begun


async def follow(
    work: Awaitable[Answer], fetch: Callable[[], list[Workload]], progress: Progress, every: float = EVERY_SECONDS
) -> Answer:
    """Look at the workloads until `work` ends; its answer. A look that fails is tried again."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=every)
            await _look(fetch, progress.look)
        answer = await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await _look(fetch, progress.finish)
    return answer


async def _look(fetch: Callable[[], list[Workload]], take: Callable[[Sequence[Workload]], None]) -> None:
    try:
        take(await asyncio.to_thread(fetch))
    except Problem:  # the cluster may be busy; Helm has its own words when it is away
        return


def verdict(workloads: Sequence[Workload], namespace: str) -> list[Finding]:
    """What keeps the release from being ready, one line for each pod that is not."""
    lines: list[Finding] = []
    for workload in workloads:
        if workload.settled:
            continue
        step = f"kubectl describe --namespace {namespace} {workload.title}"
        lines += [Finding("fail", workload.title, str(each), each.next_step) for each in workload.troubles] or [
            Finding("fail", workload.title, f"{_counts(workload)} ready", step)
        ]
    return lines


def _counts(workload: Workload) -> str:
    return f"{workload.ready}/{workload.desired}"
