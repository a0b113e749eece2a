"""What the benchmarks share: processes of their own for servers, CPU time of a process, percentiles."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, in steps of a clock tick."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_megabytes(pid: int) -> float:
    """Memory that a process holds, without what it shares untouched with others."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return kilobytes / 1024


@contextmanager
def process(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[int, str]]:
    """A Python process that prints one line when it is ready: its id and that line. It is ended with the block."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as started:
        try:
            assert started.stdout is not None
            line = started.stdout.readline().strip()
            if not line:
                raise RuntimeError(f"{' '.join(command)} ended before it was ready")
            yield started.pid, line
        finally:
            started.terminate()
            started.wait(10)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
