"""The questions that one question hangs on, as equations: what the fixpoint solver and explanations work on.

Slower than the closures and complete: every ground question that may matter is looked at once, whatever the cycles.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pyairtable_mesh.runtime.authorization.facts import Term, Verdict
from pyairtable_mesh.runtime.authorization.graph import every
from pyairtable_mesh.runtime.authorization.language.syntax import (
    Computed,
    Direct,
    Exclusion,
    Indirect,
    Intersection,
    Rewrite,
    Union,
)
from pyairtable_mesh.runtime.authorization.query import SHIFT, Query


@dataclass(frozen=True, slots=True)
class Fact:
    """A relationship that was looked at: it names the subject (`key` is -1), or leads on to another question."""

    slot: int
    target: int
    subject: int
    term: Term
    verdict: Verdict
    key: int = -1


@dataclass(frozen=True, slots=True)
class Any:
    """Holds if one of its facts or one of its questions or parts does."""

    parts: "tuple[Formula, ...]"


@dataclass(frozen=True, slots=True)
class All:
    """Holds if all of its parts do."""

    parts: "tuple[Formula, ...]"


@dataclass(frozen=True, slots=True)
class Without:
    """Holds if the base does and the subtracted part does not."""

    base: "Formula"
    subtracted: "Formula"


@dataclass(frozen=True, slots=True)
class Asked:
    """Holds if another question does, by a relation of the same object."""

    key: int


@dataclass(frozen=True, slots=True)
class Own:
    """The place of a direct assignment with the facts that it has."""

    slot: int
    target: int
    facts: tuple[Fact, ...]


Formula = Fact | Any | All | Without | Asked | Own


def equations(query: Query, key: int) -> dict[int, Formula]:
    """The equation of a question and those of all that it hangs on, nearest first."""
    found: dict[int, Formula] = {}
    waiting = [key]
    for each in waiting:
        if each not in found:
            query.spend(1)
            found[each] = formula_of(query, each)
            waiting += [other for other in _asked(found[each]) if other not in found]
    return found


def formula_of(query: Query, key: int) -> Formula:
    """The equation of one question."""
    if key == query.own:
        return All(())
    slot = key >> SHIFT
    return _of(query, slot, key & 0xFFFFFFFF, query.graph.slots.relations[slot].rewrite)


def _of(query: Query, slot: int, target: int, rewrite: Rewrite) -> Formula:
    slots = query.graph.slots
    match rewrite:
        case Direct():
            return Own(slot, target, tuple(_direct(query, slot, target)))
        case Computed(relation):
            return Asked(slots.by_type[slots.owner[slot]][relation] << SHIFT | target)
        case Indirect(relation, tupleset):
            link = slots.by_type[slots.owner[slot]][tupleset]
            return Any(tuple(_indirect(query, link, target, relation)))
        case Union(children):
            return Any(tuple(_of(query, slot, target, each) for each in children))
        case Intersection(children):
            return All(tuple(_of(query, slot, target, each) for each in children))
        case Exclusion(base, subtracted):
            return Without(_of(query, slot, target, base), _of(query, slot, target, subtracted))


def stored(query: Query, slot: int, target: int) -> Iterator[tuple[int, Term]]:
    """The subjects of one object in one slot, stored and contextual, with their terms."""
    edges = query.graph.edges[slot]
    for table in (edges.subjects, edges.sets):
        for subject in every(table.get(target)):
            yield subject, edges.terms.get((target, subject), Term())
    if query.extra is not None:
        yield from query.extra.get(slot << SHIFT | target, ())


def _direct(query: Query, slot: int, target: int) -> Iterator[Fact]:
    usersets = query.graph.names.usersets
    for subject, term in stored(query, slot, target):
        query.spend(1)
        if subject in (query.subject, query.wildcard):
            yield Fact(slot, target, subject, term, query.term(term))
        elif subject in usersets:
            owner, relation = usersets[subject]
            yield Fact(slot, target, subject, term, query.term(term), relation << SHIFT | owner)


def _indirect(query: Query, link: int, target: int, relation: str) -> Iterator[Fact]:
    slots, types = query.graph.slots, query.graph.names.types
    for parent, term in stored(query, link, target):
        query.spend(1)
        slot = slots.by_type[types[parent]].get(relation)
        if slot is not None:
            yield Fact(link, target, parent, term, query.term(term), slot << SHIFT | parent)


def parts(formula: Formula) -> tuple[Formula, ...]:
    """What a formula is made of."""
    match formula:
        case Any(found) | All(found):
            return found
        case Without(base, subtracted):
            return base, subtracted
        case Own(_, _, facts):
            return facts
        case _:
            return ()


def flat(formula: Formula) -> Iterator[Formula]:
    """A formula and all that it is made of."""
    yield formula
    for each in parts(formula):
        yield from flat(each)


def _asked(formula: Formula) -> list[int]:
    return [each.key for each in flat(formula) if isinstance(each, Fact | Asked) and each.key >= 0]


def solve(query: Query, key: int) -> dict[int, Verdict]:
    """The verdict of a question and of all that it hangs on, as the well-founded model has it."""
    system = equations(query, key)
    sure: set[int] = set()
    possible = set(system)
    while True:
        lower = _least(query, system, possible, optimistic=False)
        upper = _least(query, system, lower, optimistic=True)
        if lower == sure and upper == possible:
            break
        sure, possible = lower, upper
    undecided = possible - sure
    names = _missing(system, undecided)
    return {each: True if each in sure else (names[each] or False) if each in undecided else False for each in system}


def _least(query: Query, system: dict[int, Formula], against: Collection[int], *, optimistic: bool) -> set[int]:
    """The least set that satisfies the equations where negated questions are answered from `against`."""
    found: set[int] = set()
    while True:
        query.spend(len(system))
        more = {
            key
            for key, each in system.items()
            if key not in found and holds(each, found, against, optimistic=optimistic)
        }
        if not more:
            return found
        found |= more


def holds(formula: Formula, positive: Collection[int], negative: Collection[int], *, optimistic: bool) -> bool:
    """Whether a formula is true; what lacks context is true where this is `optimistic`."""
    match formula:
        case Fact(verdict=verdict, key=key):
            return (verdict is True or (optimistic and verdict is not False)) and (key < 0 or key in positive)
        case Asked(key):
            return key in positive
        case All(found):
            return all(holds(each, positive, negative, optimistic=optimistic) for each in found)
        case Without(base, subtracted):
            return holds(base, positive, negative, optimistic=optimistic) and not holds(
                subtracted, negative, positive, optimistic=not optimistic
            )
        case _:
            return any(holds(each, positive, negative, optimistic=optimistic) for each in parts(formula))


def _missing(system: dict[int, Formula], undecided: Collection[int]) -> dict[int, frozenset[str]]:
    names = {
        key: frozenset(
            name
            for each in flat(system[key])
            if isinstance(each, Fact) and isinstance(each.verdict, frozenset)
            for name in each.verdict
        )
        for key in undecided
    }
    changed = True
    while changed:
        changed = False
        for key in undecided:
            more = names[key].union(*(names[other] for other in _asked(system[key]) if other in undecided))
            changed = changed or more != names[key]
            names[key] = more
    return names
