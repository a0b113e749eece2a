"""One operating system process: started on a leash, its output in a file, its end in words."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyairtable_laptop import leash
from pyairtable_laptop.plan import Plan

MAX_LOG_BYTES = 16 << 20
TAIL_BYTES = 8 << 10
TAIL_LINES = 6
WRONG_SETTINGS = 2
"""Exit status of a process whose settings are wrong: starting it again would not help."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started; `log_begin` is where its own lines begin in its log."""

    plan: Plan
    process: Process
    log_begin: int

    async def ended(self) -> int:
        """Wait for the end; the exit status, or minus the signal's number."""
        return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    def last_lines(self) -> list[str]:
        """The end of what this process wrote."""
        try:
            with self.plan.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self.log_begin if size >= self.log_begin else 0, size - TAIL_BYTES))
                lines = log.read(TAIL_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if line.strip()][-TAIL_LINES:]


class Leash:
    """The pipe that ends all processes of a supervisor with it; see `pyairtable_laptop.leash`."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    async def start(self, plan: Plan) -> Running:
        """Start a process in a session of its own, so that the terminal's Ctrl-C reaches the supervisor alone."""
        trim(plan.log)
        with plan.log.open("ab") as log:
            begin = log.tell()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", leash.__file__, str(self._reading), *plan.command),
                env=dict(plan.environment),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._reading],
                start_new_session=True,
            )
        return Running(plan, process, begin)

    def close(self) -> None:
        """Let go: whatever still runs ends."""
        os.close(self._writing)
        os.close(self._reading)


async def stop(running: Sequence[Running], seconds: float, hurry: asyncio.Event) -> list[str]:
    """End processes at the same time: SIGTERM, and SIGKILL after `seconds` or at once when `hurry` is set.

    Returns the names of those that had to be killed.
    """
    for each in running:
        each.signal(signal.SIGTERM)
    everything: asyncio.Task[Any] = asyncio.create_task(_all_ended(running))
    hurried: asyncio.Task[Any] = asyncio.create_task(hurry.wait())
    await asyncio.wait({everything, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    late = [each for each in running if each.process.returncode is None]
    for each in late:
        each.signal(signal.SIGKILL)
    await everything
    return [each.plan.name for each in late]


async def _all_ended(running: Sequence[Running]) -> None:
    for each in running:
        await each.ended()


def ending(status: int) -> str:
    """How a process ended, as the rest of a sentence."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    if status == WRONG_SETTINGS:
        return "did not start, because its settings are wrong"
    return f"ended with exit status {status}"


def trim(log: Path) -> None:
    """Keep a log and its predecessor below `MAX_LOG_BYTES` each; its writer appends, so that nothing is torn."""
    try:
        content = log.read_bytes() if log.stat().st_size > MAX_LOG_BYTES else b""
    except FileNotFoundError:
        return
    if content:
        log.with_suffix(".log.1").write_bytes(content[-MAX_LOG_BYTES:])
        os.truncate(log, 0)
