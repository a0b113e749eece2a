"""Programs that join the running platform by ``python -m pyairtable_laptop join``."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mesh.platform import Platform


@dataclass(frozen=True, slots=True)
class Joined:
    """A `join` that runs, and its first lines."""

    join: "subprocess.Popen[str]"
    screen: str

    @property
    def pid(self) -> int:
        """The service's process."""
        return int(re.findall(r"process (\d+)", self.screen)[0])

    def line(self) -> str:
        """Its next line; it must not end before."""
        assert self.join.stdout is not None
        line = self.join.stdout.readline()
        assert line
        return line


def joined(platform: Platform, name: str, *command: str | Path) -> contextlib.AbstractContextManager[Joined]:
    """A command as a service of the mesh, from when it takes calls until the block's end."""
    return started(
        name, [sys.executable, "-m", "pyairtable_laptop", "join", name, "--data", platform.data, "--", *command]
    )


@contextlib.contextmanager
def started(name: str, join: Sequence[str | Path]) -> Iterator[Joined]:
    """The same with the whole line of a `join`."""
    with subprocess.Popen(join, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        try:
            lines = []
            for line in running.stdout:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            else:
                pytest.fail(f"{name} could not join:\n{''.join(lines)}")
            yield Joined(running, "".join(lines))
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGINT)
