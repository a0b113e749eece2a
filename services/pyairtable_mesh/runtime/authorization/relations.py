"""The engine of a space whose permissions are relations of its schema: plain ReBAC, any OpenFGA model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pyairtable_mesh.runtime.authorization.compiler import compile_schema
from pyairtable_mesh.runtime.authorization.conditions import Conditions
from pyairtable_mesh.runtime.authorization.derivation import solve
from pyairtable_mesh.runtime.authorization.facts import Change, Circumstances, Decision, Limits, Verdict
from pyairtable_mesh.runtime.authorization.graph import Graph
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.authorization.names import Slots
from pyairtable_mesh.runtime.authorization.query import SHIFT, Query, UnstratifiedError, overlay
from pyairtable_mesh.runtime.errors import MeshError

T = TypeVar("T")
Question = tuple[str, str, str]
"""(object, relation, subject)."""


class RelationEngine:
    """A schema, its relationships at one revision, and answers from them.

    Synchronous and for one thread: no call yields, so that each sees one revision. Large batches are the caller's to
    cut. Every question may raise InvalidArgument for a reference that the schema does not have, and ResourceExhausted
    EVALUATION_LIMIT with the path.
    """

    def __init__(self, schema: Schema, limits: Limits = Limits()) -> None:  # noqa: B008 # immutable
        self.schema = schema
        self.limits = limits
        self.revision = 0
        self.graph = Graph(Slots(schema))
        self.conditions = Conditions(schema)
        self.conditions.compile()
        self.answers = compile_schema(self.graph)

    def validate(self, changes: Sequence[Change], field: str = "changes", first: int = 0) -> None:
        """InvalidArgument on a part of ``field[index]``, indexes from `first`, for a relationship that the schema does
        not admit.
        """
        for index, change in enumerate(changes, first):
            self.graph.validate(change.relationship, f"{field}[{index}]")
            self.conditions.validate(change.relationship.term, f"{field}[{index}].condition")

    def apply(self, revision: int, changes: Iterable[Change]) -> None:
        """Apply the validated changes of one revision, which must be later than the present one."""
        self.graph.apply(changes)
        self.revision = revision

    def handle(self, reference: str) -> int:
        """The handle of an object or subject, for `allowed`; it is interned for the life of the engine."""
        return self.graph.names.subject(reference)

    def allowed(self, subject: int, slot: int, target: int, now: float) -> bool:
        """Whether it is allowed, unconditionally, by handles and the slot of the relation."""
        return (
            self._verdict(Query(self.graph, subject, now, {}, self.conditions.evaluate, self.limits), slot, target)
            is True
        )

    def check(self, question: Question, given: Circumstances) -> Decision:
        """The answer to one question."""
        with self.asked(question, given) as (query, key):
            return Decision.of(self._verdict(query, key >> SHIFT, key & 0xFFFFFFFF), self.revision)

    def batch(self, questions: Sequence[Question], given: Circumstances) -> list[Decision | MeshError]:
        """An answer or an error for each question."""
        return [_attempt(lambda each=each: self.check(each, given)) for each in questions]  # type: ignore[misc]

    def verdict(self, query: Query, key: int) -> Verdict:
        """The verdict of a question in a query of this engine."""
        return self._verdict(query, key >> SHIFT, key & 0xFFFFFFFF)

    @contextmanager
    def asked(self, question: Question, given: Circumstances) -> Iterator[tuple[Query, int]]:
        """A query and the key of its question; names that only the question has are forgotten at the end."""
        target, relation, subject = question
        names = self.graph.names
        mark = len(names)
        try:
            extra = overlay(self.graph, given)
            handle = names.object(target, "resource")
            slot = self.graph.slots.of(names.types[handle], relation, "permission")
            query = self.query(names.subject(subject, "subject"), given.now, given.context)
            query.extra = extra
            yield query, slot << SHIFT | handle
        finally:
            names.rollback(mark)

    def query(self, subject: int, now: float, context: Mapping[str, Any]) -> Query:
        """A new query about a subject."""
        return Query(self.graph, subject, now, context, self.conditions.evaluate, self.limits)

    def _verdict(self, query: Query, slot: int, target: int) -> Verdict:
        try:
            return self.answers[slot](query, target)
        except UnstratifiedError:
            query.open.clear()
            key = slot << SHIFT | target
            return solve(query, key)[key]


def _attempt(answer: Callable[[], T]) -> T | MeshError:
    try:
        return answer()
    except MeshError as error:
        return error
