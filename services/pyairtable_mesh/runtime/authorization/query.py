"""One question while it is being answered: what it is asked under, what is open, what is known, what it has cost."""

from collections.abc import Callable, Mapping, Sequence
from time import thread_time
from typing import Any

from pyairtable_mesh.runtime.authorization.facts import Circumstances, Limits, Term, Verdict, exhausted
from pyairtable_mesh.runtime.authorization.graph import Graph

NO_CUT = 1 << 30
SHIFT = 32
_MOST_STEPS = 10_000
"""What one evaluation of a condition may take."""
Evaluate = Callable[[Term, Mapping[str, Any]], Verdict]
"""The verdict of a term's condition with a request's context; the expiry is not its concern."""


def metered(evaluate: Evaluate, term: Term, context: Mapping[str, Any]) -> tuple[Verdict, int]:
    """The verdict of a condition, and the steps that it took: one for each microsecond, and one at least.

    Its bound is far above what most evaluations take, so they are charged by a meter. What that shows beyond the bound
    was not the condition's: Python collects garbage whenever it likes.
    """
    begun = thread_time()
    verdict = evaluate(term, context)
    return verdict, 1 + min(int((thread_time() - begun) * 1e6), _MOST_STEPS)


class UnstratifiedError(Exception):
    """A subtracted side hangs on a question that is still open; the fixpoint solver must answer."""


class Query:
    """State of one evaluation. A question's key is ``slot << 32 | object``.

    `open` has the questions that are being answered, with their depth; `cut` is the least depth of an open question
    that was asked again, and so was answered False for the time being.
    """

    __slots__ = (
        "context",
        "cut",
        "evaluate",
        "extra",
        "graph",
        "known",
        "limits",
        "now",
        "open",
        "own",
        "steps",
        "subject",
        "wildcard",
    )

    def __init__(
        self, graph: Graph, subject: int, now: float, context: Mapping[str, Any], evaluate: Evaluate, limits: Limits
    ) -> None:
        self.graph = graph
        self.subject = subject
        self.wildcard = graph.names.wildcard(subject)
        slot_of = graph.names.usersets.get(subject)
        self.own = -1 if slot_of is None else slot_of[1] << SHIFT | slot_of[0]
        self.now = now
        self.context = context
        self.evaluate = evaluate
        self.limits = limits
        self.steps = limits.steps
        self.known: dict[int, Verdict] = {}
        self.open: dict[int, int] = {}
        self.cut = NO_CUT
        self.extra: dict[int, list[tuple[int, Term]]] | None = None

    def term(self, term: Term) -> Verdict:
        """Whether a term holds now, in this context; ResourceExhausted at the bound of steps."""
        if term.expires is not None and self.now >= term.expires:
            return False
        if not term.condition:
            return True
        verdict, steps = metered(self.evaluate, term, self.context)
        self.spend(steps)
        return verdict

    def spend(self, steps: int) -> None:
        """Count what is looked at; ResourceExhausted at the bound."""
        self.steps -= steps
        if self.steps < 0:
            raise exhausted(f"the answer needs more than {self.limits.steps} steps", self.path())

    def path(self) -> Sequence[str]:
        """The open questions, outermost first."""
        return [question_name(self.graph, key) for key in self.open]


def question_name(graph: Graph, key: int) -> str:
    """``object#relation`` of a key."""
    return f"{graph.names.texts[key & 0xFFFFFFFF]}#{graph.slots.relations[key >> SHIFT].name}"


def overlay(graph: Graph, circumstances: Circumstances) -> dict[int, list[tuple[int, Term]]] | None:
    """The contextual relationships by the key of their object and relation; their names are in the graph's until
    they are rolled back. InvalidArgument for one that could not be stored.
    """
    if not circumstances.contextual:
        return None
    extra: dict[int, list[tuple[int, Term]]] = {}
    for index, each in enumerate(circumstances.contextual):
        slot, target, subject = graph.resolve(each, f"contextual_relationships[{index}]")
        extra.setdefault(slot << SHIFT | target, []).append((subject, each.term))
    return extra
