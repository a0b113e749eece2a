"""A measured figure beside its goal, and how figures are shown."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

_COLUMNS = "{:<62} {:>16} {:>12} {:>5}  {}"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound from design.md."""

    bound: Literal["at least", "at most"]
    value: float


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured; `unit` is empty for a ratio or a count, `goal` None where there is none to reach."""

    what: str
    value: float
    unit: str = ""
    goal: Goal | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal.value if self.goal.bound == "at least" else self.value <= self.goal.value


Show = Callable[[Figure, str], None]
"""Takes a figure and the command that measures it."""


def heading() -> None:
    """The names of the table's columns."""
    print(_COLUMNS.format("what", "measured", "goal", "met", "command"), flush=True)


def row(figure: Figure, command: str) -> None:
    """A row of the table for people."""
    goal = figure.goal
    sign = "" if goal is None else {"at least": ">=", "at most": "<="}[goal.bound] + f" {goal.value:g}"
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    print(
        _COLUMNS.format(figure.what, f"{_readable(figure.value)} {figure.unit}".strip(), sign, met, command), flush=True
    )


def line(figure: Figure, command: str) -> None:
    """A line of JSON for programs."""
    print(json.dumps({**asdict(figure), "met": figure.met, "command": command}), flush=True)


def _readable(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
