"""One run of the platform: everything is looked at, started, and shown; `session` watches and ends it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from pyairtable_laptop import demo, issuer, plan
from pyairtable_laptop.folder import DataFolder, locked, write_private
from pyairtable_laptop.mesh import MeshFile, remove_left_over
from pyairtable_laptop.screen import JsonScreen, Output, Ready, Screen, TextScreen
from pyairtable_laptop.session import Signals, supervise
from pyairtable_laptop.supervisor import Supervisor
from pyairtable_mesh.runtime.errors import MeshError


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; `begun` on the monotonic clock."""

    data: Path
    instances: Mapping[str, int]
    free_ports: bool
    output: Literal["text", "json"]
    begun: float


def run(options: Options) -> None:
    """Run until a signal comes; click.ClickException in words when the platform can't be started."""
    issuer.refuse_production()
    folder = DataFolder(options.data)
    folder.make()
    signals = Signals()
    output = Output(gone=signals.stopping.set)
    screen: Screen = JsonScreen(output) if options.output == "json" else TextScreen(output)
    with locked(folder):
        plans = plan.plans(folder, options.instances, free_ports=options.free_ports)
        plan.check_ports(plans)
        remove_left_over(folder.mesh)
        write_private(folder.control_plane_file, plans[0].address.encode())
        asyncio.run(_run(options, folder, plans, screen, signals))


async def _run(
    options: Options, folder: DataFolder, plans: Sequence[plan.Plan], screen: Screen, signals: Signals
) -> None:
    mesh = MeshFile(folder.mesh_file, plans)

    async def present(supervisor: Supervisor) -> None:
        await _present(options, folder, supervisor, screen)

    await supervise(plans, mesh, folder, screen, signals, present)
    screen.say(f"Everything has ended. The data stays in {options.data}.")


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
