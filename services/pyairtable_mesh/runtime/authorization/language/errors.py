"""What is wrong with a model, each with its place."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyairtable_mesh.runtime.authorization.language.syntax import Position
from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument

SHOWN_PROBLEMS = 20
"""How many problems one error lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a model, in a sentence; `expected` is what could have stood there, for a fault of grammar."""

    position: Position
    description: str
    expected: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"line {self.position.line}, column {self.position.column}: " if self.position.line else ""
        expected = f"; expected {' or '.join(self.expected)}" if self.expected else ""
        return f"{where}{self.description}{expected}"


class SchemaError(InvalidArgument):
    """A model that cannot be used; reason INVALID_SCHEMA, `problems` in the order of the text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        violations = [FieldViolation("source", str(each), "schema") for each in self.problems[:SHOWN_PROBLEMS]]
        more = len(self.problems) - 1
        words = f"the schema cannot be used: {self.problems[0]}" + (f" (and {more} more)" if more else "")
        super().__init__(words, violations, reason="INVALID_SCHEMA")
