"""One run of the platform: everything is looked at, started, shown, watched, and ended again."""

import asyncio
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from pyairtable_laptop import demo, issuer, plan
from pyairtable_laptop.folder import DataFolder, locked, write_private
from pyairtable_laptop.mesh import MeshFile
from pyairtable_laptop.processes import Leash
from pyairtable_laptop.screen import JsonScreen, Output, Ready, Screen, TextScreen
from pyairtable_laptop.supervisor import Supervisor
from pyairtable_mesh.runtime.errors import MeshError

TOKEN_RENEWAL_SECONDS = issuer.WORKLOAD_SECONDS / 3


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `begun` on the monotonic clock."""

    data: Path
    instances: Mapping[str, int]
    free_ports: bool
    output: Literal["text", "json"]
    begun: float


@dataclass(frozen=True, slots=True)
class Signals:
    """`stopping` is set by the first Ctrl-C (or SIGTERM, SIGHUP, a closed pipe), `hurry` by the second."""

    stopping: asyncio.Event
    hurry: asyncio.Event

    def receive(self) -> None:
        """A signal came."""
        (self.hurry if self.stopping.is_set() else self.stopping).set()


def run(options: Options) -> None:
    """Run until a signal comes; click.ClickException in words when the platform can't be started."""
    issuer.refuse_production()
    folder = DataFolder(options.data)
    folder.make()
    signals = Signals(asyncio.Event(), asyncio.Event())
    output = Output(gone=signals.stopping.set)
    screen: Screen = JsonScreen(output) if options.output == "json" else TextScreen(output)
    with locked(folder):
        plans = plan.plans(folder, options.instances, free_ports=options.free_ports)
        plan.check_ports(plans)
        asyncio.run(_run(options, folder, plans, screen, signals))


async def _run(
    options: Options, folder: DataFolder, plans: Sequence[plan.Plan], screen: Screen, signals: Signals
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signals.receive)
    _write_tokens(folder)
    leash = Leash()
    supervisor = Supervisor(plans, MeshFile(folder.mesh_file, plans), leash, screen.event)
    try:
        await _until(
            signals.stopping,
            supervisor.run(),
            _renew_tokens(folder),
            _present(options, folder, supervisor, screen),
        )
        screen.say("Ending: calls in flight may finish. Ctrl-C again ends at once.")
    finally:
        killed = await supervisor.stop(signals.hurry)
        leash.close()
    if killed:
        screen.say(f"Ended by force, because they took too long: {', '.join(killed)}.")
    screen.say(f"Everything has ended. The data stays in {options.data}.")


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


async def _present(options: Options, folder: DataFolder, supervisor: Supervisor, screen: Screen) -> None:
    """Wait for the platform, make the demo data, and show the first screen."""
    await supervisor.ready()
    addresses = {state.name: state.address for state in supervisor.states()}
    async with demo.connected(addresses["permission"], addresses["user"], folder) as data:
        try:
            await data.make()
            calls = await data.first_calls()
        except MeshError as error:
            raise click.ClickException(
                f"the demo data could not be made: {error.message} ({error.reason}).\n"
                f"The logs say more: {folder.logs}. To begin anew, remove {folder.root}."
            ) from None
    screen.ready(Ready(time.monotonic() - options.begun, options.data, supervisor.states(), calls))


def _write_tokens(folder: DataFolder) -> None:
    signer = issuer.workloads(folder)
    issuer.users(folder)
    for service in plan.services():
        write_private(folder.tokens / f"{service}.jwt", issuer.workload_token(signer, service).encode())


async def _renew_tokens(folder: DataFolder) -> None:
    while True:
        await asyncio.sleep(TOKEN_RENEWAL_SECONDS)
        _write_tokens(folder)
