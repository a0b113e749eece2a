"""Code generation, Go, Python, OpenAPI and descriptors: `generate.sh` with buf, `generate-protoc.sh` with protoc.

The tools are installed first, outside of the measurement; what is generated goes into a temporary folder.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, Goal
from bench.measure import BenchmarkError, middle

SCRIPTS = Path(__file__).parents[1] / "protos" / "scripts"
RUNS, QUICK_RUNS = 5, 1
RUN_SECONDS, INSTALL_SECONDS = 120, 600


def measure(*, quick: bool) -> Iterator[Figure]:
    """Seconds of each way, the median of several runs."""
    if shutil.which("go") is None:
        raise BenchmarkError("go is not on PATH: install Go from https://go.dev/dl or your distribution")
    _run("install-tools.sh", seconds=INSTALL_SECONDS)
    for script in ("generate.sh", "generate-protoc.sh"):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            seconds = [_run(script, folder) for _ in range(QUICK_RUNS if quick else RUNS)]
        yield Figure(f"scripts/{script}", middle(seconds), "s", Goal("at most", 5))


def _run(script: str, *arguments: str, seconds: float = RUN_SECONDS) -> float:
    begun = time.monotonic()
    try:
        subprocess.run(
            [SCRIPTS / script, *arguments],
            env={**os.environ, "PYTHON": sys.executable},
            check=True,
            timeout=seconds,
            stdout=subprocess.DEVNULL,
        )
    except subprocess.SubprocessError as error:
        raise BenchmarkError(f"protos/scripts/{script}: {error}") from error
    return time.monotonic() - begun
