"""What the benchmarks share: processes of their own, what a process uses, and how samples become a figure."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

START_SECONDS = 60.0
ANSWER_SECONDS = 120.0
END_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A benchmark could not measure; the message says what stood in the way."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started; `started` in seconds of the monotonic clock."""

    popen: "subprocess.Popen[str]"
    started: float

    @property
    def pid(self) -> int:
        return self.popen.pid

    def line(self, seconds: float = START_SECONDS) -> str:
        """The next line of its output; BenchmarkError when there is none in time."""
        assert self.popen.stdout is not None
        late = threading.Timer(seconds, self.popen.kill)
        late.start()
        try:
            said = self.popen.stdout.readline()
        finally:
            late.cancel()
        if not said:
            raise BenchmarkError(f"`{_words(self.popen)}` ended, or was silent for {seconds:g} s")
        return said.strip()

    def ask(self, question: object, seconds: float = ANSWER_SECONDS) -> str:
        """Give it a line of input, and wait for the line that it answers."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{question}\n")
        self.popen.stdin.flush()
        return self.line(seconds)

    def require_alive(self) -> None:
        """BenchmarkError when it has ended."""
        if self.popen.poll() is not None:
            raise BenchmarkError(f"`{_words(self.popen)}` ended with status {self.popen.returncode}")

    def cpu_seconds(self) -> float:
        """User and system time that it has used, in steps of a clock tick (10 ms)."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_kilobytes(self) -> float:
        """Memory that it holds now, with what it shares with others (files of libraries)."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(float(line.split()[1]) for line in status if line.startswith("VmRSS:"))


@contextmanager
def process(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """A Python process with pipes for its input and output. It is ended with the block."""
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as popen:
        try:
            yield Process(popen, started)
        finally:
            popen.terminate()
            try:
                popen.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                popen.kill()


def _words(popen: "subprocess.Popen[str]") -> str:
    assert isinstance(popen.args, list)
    return " ".join(["python", *map(str, popen.args[1:])])


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def middle_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios, pair by pair: what a round did to both cancels out."""
    return middle([one / other for one, other in zip(ones, others, strict=True)])
