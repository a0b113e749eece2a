"""The conditions of a schema, by name. What compiles and evaluates them (CEL) is imported with the first one."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pyairtable_mesh.runtime.authorization.facts import Term, Verdict
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.errors import InvalidArgument

if TYPE_CHECKING:
    from pyairtable_mesh.runtime.authorization.programs import Program


class Conditions:
    """The conditions of one schema. They are compiled for the first that is used: before that, nothing is imported."""

    def __init__(self, schema: Schema) -> None:
        self._conditions = schema.conditions
        self._compiled: dict[str, Program] = {}

    def compile(self, terms: Iterable[Term] | None = None) -> None:
        """Compile all of them, or those of some terms, so that no question waits for it. `SchemaError` for an
        expression that does not compile, or gives no boolean.
        """
        for name in self._conditions if terms is None else {each.condition for each in terms if each.condition}:
            self._program(name)

    def _program(self, name: str) -> "Program":
        found = self._compiled.get(name)
        if found is None:
            from pyairtable_mesh.runtime.authorization.programs import Program  # noqa: PLC0415 # with the first one

            found = self._compiled[name] = Program(self._conditions[name])
        return found

    def evaluate(self, term: Term, context: Mapping[str, Any]) -> Verdict:
        """Whether the term's condition holds; values stored with the term win over those of the context.

        Missing values matter only where the expression needs them. InvalidArgument INVALID_CONTEXT for a value of
        another type than its parameter's; ResourceExhausted for an expression that costs too much.
        """
        return self._program(term.condition).evaluate({**context, **term.context})

    def validate(self, term: Term, field: str) -> None:
        """InvalidArgument on `field` for stored values that the condition has no use for, or of another type."""
        if not term.condition:
            return
        program = self._program(term.condition)
        if unknown := sorted(term.context.keys() - program.parameters.keys()):
            words = f"the condition {term.condition} has no parameter {unknown[0]!r}"
            raise InvalidArgument.of_field(f"{field}.context", words, reason="INVALID_CONTEXT")
        program.values(term.context, f"{field}.context")
