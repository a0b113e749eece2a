"""``python -m pyairtable_laptop join``: a service of one's own, run by any command, beside a platform that runs."""

import asyncio
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pyairtable_laptop import issuer, plan
from pyairtable_laptop.folder import DataFolder, held, is_held
from pyairtable_laptop.mesh import MeshFile, home_of, lock_of
from pyairtable_laptop.screen import Output, TextScreen
from pyairtable_laptop.session import Signals, supervise
from pyairtable_laptop.supervisor import Supervisor

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_OURS = frozenset({"platform", "mesh", plan.CONTROL_PLANE})
"""Names of our files, and what `meshctl` calls the control plane by."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; port 0 is any free one."""

    name: str
    command: Sequence[str]
    data: Path
    port: int = 0


def run(options: Options) -> None:
    """Run the command until a signal comes; click.ClickException in words when it can't join."""
    issuer.refuse_production()
    name, folder = options.name, DataFolder(options.data)
    if not _NAME.fullmatch(name) or name in _OURS:
        raise click.ClickException(
            f"{name!r} can't be the name: lower-case letters, digits and hyphens, and not one of ours"
        )
    if not is_held(folder.lock_file):
        raise click.ClickException(
            f"no platform runs on {folder.root}. Start it with `make run`, or say which folder it uses: --data DIR"
        )
    if shutil.which(options.command[0]) is None:
        raise click.ClickException(f"{options.command[0]} is no program that can be run: see PATH, or give its path")
    file = folder.mesh / f"{name}.yaml"
    with held(lock_of(file), f"{name} has joined already", "take another name"):
        file.unlink(missing_ok=True)
        if (home := home_of(name, folder.mesh)) is not None:
            raise click.ClickException(f"{name} is in the mesh already, by {home}; take another name")
        control_plane = _control_plane(folder)
        mine = plan.joined(folder, name, options.command, control_plane, options.port)
        plan.check_ports([mine], "--port N")
        try:
            asyncio.run(_run(mine, MeshFile(file, [mine]), folder, control_plane))
        finally:
            file.unlink(missing_ok=True)


def _control_plane(folder: DataFolder) -> str:
    try:
        return folder.control_plane_file.read_text()
    except FileNotFoundError:
        raise click.ClickException(f"the platform on {folder.root} is only starting; try again") from None


async def _run(mine: plan.Plan, mesh: MeshFile, folder: DataFolder, control_plane: str) -> None:
    signals = Signals()
    screen = TextScreen(Output(gone=signals.stopping.set))

    async def present(supervisor: Supervisor) -> None:
        await supervisor.ready()
        [state] = supervisor.states()
        screen.joined(state, folder, control_plane)

    await supervise([mine], mesh, folder, screen, signals, present)
    screen.say(f"{mine.name} has left the mesh.")
