"""`python -m bench`: every benchmark measures something, and says so in both forms. No figure is held to anything."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import fga
from bench.__main__ import BENCHMARKS
from bench.figures import Figure, Goal

REPOSITORY = Path(__file__).parents[2]


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_measures(name: str) -> None:
    if name == "generation" and shutil.which("go") is None:
        pytest.skip("go is not on PATH")
    if name == "openfga" and fga.installed() is None:
        pytest.skip("OpenFGA is not built yet, which takes minutes: `python -m bench openfga` does it once")
    done = bench(name, "--quick", "--output", "json")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert figures
    assert len({figure["what"] for figure in figures}) == len(figures)
    for figure in figures:
        assert math.isfinite(figure["value"])
        assert figure["value"] >= 0
        assert figure["command"] == f"python -m bench {name} --quick"
        assert (figure["met"] is None) == (figure["goal"] is None)


def test_the_table_has_a_column_for_each_question() -> None:
    done = bench("endpoint", "--quick")
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["what", "measured", "goal", "met", "command"]
    assert len(rows) == 3
    assert all(row.endswith("python -m bench endpoint --quick") for row in rows)


def test_benchmarks_are_listed_with_what_they_measure() -> None:
    done = bench("--list")
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert tuple(listed) == BENCHMARKS
    assert all(listed.values())


def test_what_is_not_there_is_refused() -> None:
    done = bench("speed")
    assert done.returncode == 2
    assert "'speed'" in done.stderr


def test_what_cannot_be_measured_is_said_in_words() -> None:
    done = bench("generation", PATH="/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("generation could not be measured: go is not on PATH")


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [("at least", 1.0, True), ("at least", 0.9, False), ("at most", 1.0, True), ("at most", 1.1, False)],
)
def test_a_goal_is_met_at_its_bound(bound: str, value: float, met: bool) -> None:
    goal = Goal("at least" if bound == "at least" else "at most", 1.0)
    assert Figure("it", value, goal=goal).met is met


def test_a_figure_without_a_goal_is_neither_met_nor_missed() -> None:
    assert Figure("it", 1.0).met is None
