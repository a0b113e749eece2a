"""From the command of `make run` to its first screen: every process SERVING, and the first calls made.

The first run makes keys, databases and demo data; the second finds them.
"""

import json
import signal
import tempfile
import time
from collections.abc import Iterator

from bench.figures import Figure, Goal
from bench.measure import END_SECONDS, process

RUNS = ("first run", "second run, on the same data")


def measure(*, quick: bool) -> Iterator[Figure]:
    """Seconds of each run."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for run in RUNS[:1] if quick else RUNS:
            yield Figure(f"whole platform up, {run}", _seconds(folder), "s", Goal("at most", 15))


def _seconds(folder: str) -> float:
    arguments = ("-m", "pyairtable_laptop", "run", "--free-ports", "--output", "json", "--data", folder)
    with process(*arguments) as platform:
        while json.loads(platform.line())["event"] != "ready":
            pass
        seconds = time.monotonic() - platform.started
        platform.popen.send_signal(signal.SIGINT)
        platform.popen.wait(END_SECONDS)
    return seconds
