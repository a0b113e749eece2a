"""What commands get from outside of meshctl, so that a test can pass something else."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.control_plane import TOKEN_VARIABLE

PROGRAM_SECONDS = 30.0

control_plane_option = click.option(
    "--control-plane",
    "plane",
    envvar="PYAIRTABLE_CONTROL_PLANE",
    default="127.0.0.1:18000",
    show_default=True,
    show_envvar=True,
    metavar="HOST:PORT",
    help="Address of the control plane.",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """The process's surroundings."""

    variables: Mapping[str, str]
    """Environment variables."""
    connect: rpc.Connect
    """Opens connections."""
    run_program: Callable[[Sequence[str]], subprocess.CompletedProcess[str]]
    """Runs a program to its end, with its output kept."""
    now: Callable[[], datetime]
    """The clock: aware, in UTC."""

    @property
    def control_plane_token(self) -> str:
        """What says to a cluster's control plane who asks; empty where nothing does."""
        return self.variables.get(TOKEN_VARIABLE, "")


def of_process() -> Environment:
    """The real surroundings."""
    return Environment(os.environ, rpc.connect, run_program, lambda: datetime.now(UTC))


def run_program(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program for at most `PROGRAM_SECONDS`; OSError or TimeoutExpired when it cannot be run."""
    return subprocess.run(  # noqa: S603 - no shell, and the programs are constants of the callers
        command, capture_output=True, text=True, check=False, timeout=PROGRAM_SECONDS
    )
