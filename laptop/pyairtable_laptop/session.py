"""What a run of the platform and one of a single service share: signals, tokens that stay valid, an orderly end."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import click

from pyairtable_laptop import issuer
from pyairtable_laptop.folder import DataFolder, write_private
from pyairtable_laptop.mesh import MeshFile
from pyairtable_laptop.plan import CONTROL_PLANE, Plan
from pyairtable_laptop.processes import Leash
from pyairtable_laptop.supervisor import Event, Supervisor

ECHO_SECONDS = 0.5
TOKEN_RENEWAL_SECONDS = issuer.WORKLOAD_SECONDS / 3


@dataclass(slots=True)
class Signals:
    """`stopping` is set by the first Ctrl-C (or SIGTERM, SIGHUP, a closed pipe), `hurry` by the second."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    _first: float = 0.0

    def receive(self) -> None:
        """A signal came. Right behind the first it is its echo: make and timeout pass on what their group got too."""
        if not self.stopping.is_set():
            self._first = time.monotonic()
            self.stopping.set()
        elif time.monotonic() - self._first > ECHO_SECONDS:
            self.hurry.set()


class Told(Protocol):
    """Where a run tells what happens."""

    def event(self, event: Event) -> None:
        """Something happened to a process."""

    def say(self, words: str) -> None:
        """A sentence about the run itself."""


async def supervise(
    plans: Sequence[Plan],
    mesh: MeshFile,
    folder: DataFolder,
    told: Told,
    signals: Signals,
    present: Callable[[Supervisor], Coroutine[Any, Any, None]],
) -> None:
    """Run processes until a signal comes, and end them; `present` is for what is done once they are ready.

    click.ClickException in words when one can't be started.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.receive)
    _write_tokens(plans, folder)
    leash = Leash()
    supervisor = Supervisor(plans, mesh, leash, told.event)
    try:
        await _until(signals.stopping, supervisor.run(), _renew_tokens(plans, folder), present(supervisor))
        told.say("Ending: calls in flight may finish. Ctrl-C again ends at once.")
    finally:
        killed = await supervisor.stop(signals.hurry)
        leash.close()
    if killed:
        told.say(f"Ended by force, because they took too long: {', '.join(killed)}.")


async def _until(stopping: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Work until `stopping` is set; the first click.ClickException of any part ends all of it."""
    try:
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(part) for part in work]
            await stopping.wait()
            for part in parts:
                part.cancel()
    except* click.ClickException as failures:
        raise failures.exceptions[0] from None


def _write_tokens(plans: Sequence[Plan], folder: DataFolder) -> None:
    signer = issuer.workloads(folder)
    issuer.users(folder)
    for service in {plan.service for plan in plans} - {CONTROL_PLANE}:
        write_private(folder.tokens / f"{service}.jwt", issuer.workload_token(signer, service).encode())


async def _renew_tokens(plans: Sequence[Plan], folder: DataFolder) -> None:
    while True:
        await asyncio.sleep(TOKEN_RENEWAL_SECONDS)
        _write_tokens(plans, folder)
