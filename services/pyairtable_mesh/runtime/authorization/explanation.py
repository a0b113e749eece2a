"""Why a relation holds, by the fewest relationships; or the fewest that would have to be added, and what failed.

The cheapest derivation of each question is found over its equations (Knuth's generalisation of Dijkstra's algorithm):
a stored relationship costs 1, one that is missing costs `MISSING`, an exclusion holds where its subtracted side does
not. Cycles cannot make anything cheaper, so every derivation is a tree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from pyairtable_mesh.runtime.authorization.derivation import (
    All,
    Any,
    Asked,
    Fact,
    Formula,
    Own,
    Without,
    equations,
    flat,
    formula_of,
    holds,
    parts,
    solve,
    stored,
)
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Decision, Relationship
from pyairtable_mesh.runtime.authorization.query import Query, question_name
from pyairtable_mesh.runtime.authorization.relations import Question, RelationEngine

MISSING = 1_000_000
SHOWN = 5
"""How many relationships a sentence names."""
_MOST_WEIGHED = 50
"""Of how many missing relationships each is left out once, to see whether it is superfluous; that takes a check."""


@dataclass(frozen=True, slots=True)
class FailedCondition:
    """A condition that was false, or (`missing` is not empty) could not be answered; and what carries it."""

    condition: str
    carrier: str
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its reasons: relationships that allow, from the subject to the object; for a denial those that
    would have to be added, and the conditions that failed on the way.
    """

    decision: Decision
    sentence: str
    path: tuple[Relationship, ...] = ()
    missing: tuple[Relationship, ...] = ()
    failed: tuple[FailedCondition, ...] = ()


def explain(engine: RelationEngine, question: Question, given: Circumstances) -> Explanation:
    """Why the answer to a question is what `check` says. Errors as for a check."""
    with engine.asked(question, given) as (query, key):
        decision = Decision.of(engine.verdict(query, key), engine.revision)
        reasons = _Reasons(query, key)
        path = tuple(reasons.steps(key)) if decision.allowed else ()
        missing = () if decision.allowed or decision.missing else reasons.absent(key)
        failed = () if decision.allowed else tuple(reasons.failed())
    missing = _needed(engine, question, given, missing)
    return Explanation(decision, _sentence(question, decision, path, missing, failed), path, missing, failed)


def _needed(
    engine: RelationEngine, question: Question, given: Circumstances, missing: tuple[Relationship, ...]
) -> tuple[Relationship, ...]:
    """What of the missing relationships really turns the answer around: nothing where they are excluded elsewhere, and
    without those that the others make superfluous (a cost counts a relationship in each place that asks for it).
    """

    def enough(found: tuple[Relationship, ...]) -> bool:
        return engine.check(question, replace(given, contextual=(*given.contextual, *found))).allowed

    if not missing or not enough(missing):
        return ()
    for each in missing[:_MOST_WEIGHED]:
        fewer = tuple(other for other in missing if other is not each)
        if enough(fewer):
            missing = fewer
    return missing


class _Reasons:
    """The cheapest derivations of all questions that one hangs on."""

    def __init__(self, query: Query, key: int) -> None:
        self._query = query
        self._system = equations(query, key)
        self._verdicts = solve(query, key)
        self._true = {each for each, verdict in self._verdicts.items() if verdict is True}
        self._possible = {each for each, verdict in self._verdicts.items() if verdict is not False}
        self._costs: dict[int, float] = dict.fromkeys(self._system, inf)
        self._settle()

    def _settle(self) -> None:
        changed = True
        while changed:
            self._query.spend(len(self._system))
            changed = False
            for key, formula in self._system.items():
                cost = self._cost(formula)
                if cost < self._costs[key]:
                    self._costs[key], changed = cost, True

    def _cost(self, formula: Formula) -> float:
        match formula:
            case Fact(verdict=verdict, key=key):
                return inf if verdict is not True else 1 if key < 0 else 1 + self._costs[key]
            case Asked(key):
                return self._costs[key]
            case Own():
                cheapest = min(map(self._cost, formula.facts), default=inf)
                return min(cheapest, MISSING) if self._admits(formula.slot) else cheapest
            case Any(found):
                return min(map(self._cost, found), default=inf)
            case All(found):
                return sum(map(self._cost, found))
            case Without(base, subtracted):
                free = not holds(subtracted, self._possible, self._true, optimistic=True)
                return self._cost(base) if free else inf

    def _admits(self, slot: int) -> bool:
        kind = self._query.graph.names.kind(self._query.subject)
        return any(
            each.kind == kind and not each.condition for each in self._query.graph.slots.relations[slot].admitted
        )

    def steps(self, key: int) -> Iterator[Relationship]:
        """The relationships of the cheapest derivation, nearest to the subject first."""
        yield from self._of(self._system[key])

    def absent(self, key: int) -> tuple[Relationship, ...]:
        """The relationships that the cheapest derivation lacks; nothing where no relationship alone can help."""
        if self._costs[key] == inf:
            return ()
        stored_already = self._stored()
        return tuple(dict.fromkeys(each for each in self.steps(key) if each not in stored_already))

    def _stored(self) -> set[Relationship]:
        facts = (each for formula in self._system.values() for each in flat(formula) if isinstance(each, Fact))
        return {self._relationship(each.slot, each.target, each.subject) for each in facts if each.verdict is True}

    def _of(self, formula: Formula) -> Iterator[Relationship]:
        match formula:
            case Fact(slot=slot, target=target, subject=subject, key=key):
                if key >= 0:
                    yield from self._of(self._system[key])
                yield self._relationship(slot, target, subject)
            case Asked(key):
                yield from self._of(self._system[key])
            case All(found):
                for each in found:
                    yield from self._of(each)
            case Without(base, _):
                yield from self._of(base)
            case Own(slot, target, facts):
                cheapest = min(facts, key=self._cost, default=None)
                if cheapest is None or self._cost(cheapest) > self._cost(formula):
                    yield self._relationship(slot, target, self._query.subject)
                else:
                    yield from self._of(cheapest)
            case _:
                if found := parts(formula):
                    yield from self._of(min(found, key=self._cost))

    def _relationship(self, slot: int, target: int, subject: int) -> Relationship:
        names, relation = self._query.graph.names, self._query.graph.slots.relations[slot].name
        return Relationship(names.texts[target], relation, names.texts[subject])

    def failed(self) -> Iterator[FailedCondition]:
        """Conditions on the way that were not true."""
        facts = (each for formula in self._system.values() for each in flat(formula) if isinstance(each, Fact))
        for each in dict.fromkeys(fact for fact in facts if fact.verdict is not True):
            expired = each.term.expires is not None and self._query.now >= each.term.expires
            if each.term.condition and not expired:
                names = each.verdict if isinstance(each.verdict, frozenset) else frozenset[str]()
                carrier = str(self._relationship(each.slot, each.target, each.subject))
                yield FailedCondition(each.term.condition, carrier, names)


def _sentence(
    question: Question,
    decision: Decision,
    path: tuple[Relationship, ...],
    missing: tuple[Relationship, ...],
    failed: tuple[FailedCondition, ...],
) -> str:
    target, relation, subject = question
    if decision.allowed:
        because = f": {_listed(path)}" if path else " by definition"
        return f"{subject} is {relation} of {target}{because}."
    if decision.missing:
        return f"Whether {subject} is {relation} of {target} depends on {', '.join(sorted(decision.missing))}."
    reasons = [f"the condition {each.condition} of {each.carrier} is not met" for each in failed[:1]]
    if missing:
        reasons.append(f"it would take {_listed(missing)}")
    why = "; ".join(reasons) or "what the schema excludes stands in the way, or no relationship leads there"
    return f"{subject} is not {relation} of {target}: {why}."


def _listed(found: tuple[Relationship, ...]) -> str:
    shown = ", ".join(map(str, found[:SHOWN]))
    return shown + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree of subjects: ``leaf``, ``union``, ``intersection`` or ``exclusion`` (first without second)."""

    operation: str
    name: str
    subjects: tuple[str, ...] = ()
    children: "tuple[Node, ...]" = ()
    truncated: bool = False


def expand(engine: RelationEngine, target: str, relation: str, now: float, depth: int = 10) -> Node:
    """The tree of subjects behind a relation; what lies deeper than `depth`, or opens itself again, is truncated.

    Errors as for a check.
    """
    placeholder = f"{target.partition(':')[0]}:_"
    with engine.asked((target, relation, placeholder), Circumstances(now)) as (query, key):
        return _Tree(query).node(key, depth, frozenset())


class _Tree:
    def __init__(self, query: Query) -> None:
        self._query = query

    def node(self, key: int, depth: int, opened: frozenset[int]) -> Node:
        name = question_name(self._query.graph, key)
        if depth == 0 or key in opened:
            return Node("leaf", name, truncated=True)
        self._query.spend(1)
        return self._of(formula_of(self._query, key), name, depth - 1, opened | {key})

    def _of(self, formula: Formula, name: str, depth: int, opened: frozenset[int]) -> Node:
        match formula:
            case Own(slot, target, facts):
                leaf = Node("leaf", name, tuple(sorted(self._subjects(slot, target))))
                below = tuple(self.node(each.key, depth, opened) for each in facts if each.key >= 0 and each.verdict)
                return Node("union", name, children=(leaf, *below)) if below else leaf
            case Asked(key) | Fact(key=key):
                return self.node(key, depth, opened)
            case Without(base, subtracted):
                both = tuple(self._of(each, name, depth, opened) for each in (base, subtracted))
                return Node("exclusion", name, children=both)
            case _:
                kind = "intersection" if isinstance(formula, All) else "union"
                found = [each for each in parts(formula) if not (isinstance(each, Fact) and each.verdict is False)]
                return Node(kind, name, children=tuple(self._of(each, name, depth, opened) for each in found))

    def _subjects(self, slot: int, target: int) -> Iterator[str]:
        for subject, term in stored(self._query, slot, target):
            if self._query.term(term) is not False:
                yield self._query.graph.names.texts[subject]
