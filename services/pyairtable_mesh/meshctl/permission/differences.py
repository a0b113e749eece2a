"""Judges what differs between two schemas by what it does to those who use the first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.output import Form, Table

_ADMITTED = re.compile(r"\[(.*?)\]")
"""Whom a relation admits, in its definition."""
_PARAMETERS = re.compile(r"\((.*?)\)\s*\{")
"""What a condition takes, in its definition."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A difference with its effect: `compatible`, `other answers`, or `breaking` with the reason."""

    difference: pb.SchemaDifference
    effect: Literal["compatible", "other answers", "breaking"]
    reason: str = ""

    @property
    def breaking(self) -> bool:
        """Whether what worked with the schema before no longer does."""
        return self.effect == "breaking"

    @property
    def kind(self) -> str:
        """What happened to the element, in a word."""
        return pb.SchemaDifference.Kind.Name(self.difference.kind).removeprefix("KIND_").lower()

    def to_data(self) -> dict[str, Any]:
        """The difference for a program."""
        return {**output.to_data(self.difference), "effect": self.effect, "reason": self.reason}


def judge(difference: pb.SchemaDifference) -> Judged:
    """The effect of a difference."""
    if difference.orphaned_relationships:
        return Judged(
            difference, "breaking", f"{difference.orphaned_relationships} stored relationships lose their meaning"
        )
    if difference.kind == pb.SchemaDifference.KIND_REMOVED:
        return Judged(difference, "breaking", "it is gone")
    if difference.kind == pb.SchemaDifference.KIND_ADDED:
        return Judged(difference, "compatible")
    is_relation = "#" in difference.element
    pattern = _ADMITTED if is_relation else _PARAMETERS
    kept = _items(pattern, difference.after)
    if gone := [each for each in _items(pattern, difference.before) if each not in kept]:
        return Judged(difference, "breaking", f"no longer {'admits' if is_relation else 'takes'} {', '.join(gone)}")
    return Judged(difference, "other answers")


def _items(pattern: re.Pattern[str], definition: str) -> list[str]:
    found = pattern.search(definition)
    return [each.strip() for each in found[1].split(",")] if found else []


def report(found: Sequence[Judged], form: Form) -> None:
    """Print the differences, and how many are breaking."""
    breaking = sum(each.breaking for each in found)
    if form != "table":
        output.print_data(form, {"differences": [each.to_data() for each in found], "breaking": breaking > 0})
        return
    rows = [
        (each.effect, each.kind, each.difference.element, each.difference.before, each.difference.after, each.reason)
        for each in found
    ]
    counted = f"{len(found)} difference{'' if len(found) == 1 else 's'}"
    note = f"{counted}, {breaking or 'none'} of them breaking." if found else "No differences."
    output.print_table(Table(("EFFECT", "WHAT", "ELEMENT", "BEFORE", "AFTER", "REASON"), rows, [note]))
