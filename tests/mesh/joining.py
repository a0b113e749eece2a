"""Programs that join the running platform by ``python -m pyairtable_laptop join``."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.platform import Platform


@contextlib.contextmanager
def joined(platform: Platform, name: str, *command: str | Path) -> Iterator[None]:
    """Run a command as a service of the mesh, from when it takes calls until the block's end."""
    join = [sys.executable, "-m", "pyairtable_laptop", "join", name, "--data", platform.data, "--", *command]
    with subprocess.Popen(join, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        try:
            said = []
            for line in running.stdout:
                said.append(line)
                if "Ctrl-C" in line:
                    break
            else:
                pytest.fail(f"{name} could not join:\n{''.join(said)}")
            yield
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGINT)
