"""Lists that are sorted by the bytes of their references, resumable behind any entry, and never cut off in silence.

Candidates are what a walk over the relationships alone reaches, without regard to intersections, exclusions and
terms: everything allowed is among them. Each is then checked, in order, as it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import NamedTuple, overload

from pyroaring import BitMap

from pyairtable_mesh.runtime.authorization.compiler import monotone
from pyairtable_mesh.runtime.authorization.derivation import Own, equations, flat, stored
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Verdict, exhausted
from pyairtable_mesh.runtime.authorization.graph import Graph, bitmap, every
from pyairtable_mesh.runtime.authorization.language.syntax import Computed, Indirect, leaves
from pyairtable_mesh.runtime.authorization.query import SHIFT, Query
from pyairtable_mesh.runtime.authorization.relations import RelationEngine


class Found(NamedTuple):
    """An entry of a list: what is allowed, or (`missing` is not empty) conditional. A wildcard stands for all of its
    type but the `excluded`, which are in byte order.
    """

    reference: str
    missing: frozenset[str] = frozenset()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A part of a list. Where it is not `complete`, something may come behind it: `resume` continues it, given as
    `after`.
    """

    entries: Sequence[Found]
    complete: bool
    resume: str = ""


class Certain(Sequence[Found]):
    """Entries that hang on nothing: made as they are read, for a long list is mostly passed on."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Found: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Found]: ...
    def __getitem__(self, index: int | slice) -> Found | Sequence[Found]:
        return Certain(self.names[index]) if isinstance(index, slice) else Found(self.names[index])


class Allowance:
    """What a part of a list may still cost; each candidate is a step, and what deciding it takes are more."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Count steps."""
        self.left -= steps


def part(
    names: Iterable[str], decide: Callable[[str], Found | None], limit: int, budget: int, allowance: Allowance
) -> Listing:
    """The first `limit` (0: all) of the names, in their order, that are decided to be entries. After `budget` (0: any
    number) of decisions, or when the allowance is spent, it stops too, so that a list in which little is allowed holds
    nobody up.
    """
    entries: list[Found] = []
    last = ""
    for number, name in enumerate(names):
        stopped = number > 0 and (allowance.left <= 0 or number == budget)
        if stopped or (limit and len(entries) == limit):
            return Listing(tuple(entries), complete=False, resume=last)
        found = decide(name)
        allowance.spend(1)
        if found is not None:
            entries.append(found)
        last = name
    return Listing(tuple(entries), complete=True)


def ordered(names: Iterable[str], after: str, limit: int) -> Iterable[str]:
    """The names behind `after`, sorted; for a small limit without sorting them all first."""
    behind = [name for name in names if name > after] if after else list(names)
    if not limit or limit * 8 > len(behind):
        return sorted(behind)
    return _in_pieces(behind, limit)


def _in_pieces(names: list[str], limit: int) -> Iterator[str]:
    first = nsmallest(2 * limit, names)
    yield from first
    yield from sorted(name for name in names if name > first[-1])


def lookup_resources(
    engine: RelationEngine,
    type_name: str,
    relation: str,
    subject: str,
    given: Circumstances,
    *,
    after: str = "",
    limit: int = 0,
    budget: int = 0,
) -> Listing:
    """The objects of a type that the subject stands in the relation to, behind `after`; at most `limit` of them, and
    from at most `budget` candidates.

    InvalidArgument for names that the schema does not have; ResourceExhausted as for a check.
    """
    graph = engine.graph
    # A placeholder of the type makes the question one that `asked` can read; it is forgotten with the others.
    with engine.asked((f"{type_name}:_", relation, subject), given) as (query, key):
        slot = key >> SHIFT
        query.steps = engine.limits.list_steps
        texts, candidates = graph.names.texts, _reached(graph, query, slot)
        sure = _certain(graph, query, slot)
        # A part is made without a turn for others: deciding it may cost what one check may.
        deciding = _Deciding(engine, query, min(query.steps, engine.limits.steps))
        names = ordered((texts[each] for each in candidates), after, limit)

        def decide(name: str) -> Found | None:
            if sure:
                return Found(name)
            return deciding.entry(name, query.subject, slot << SHIFT | graph.names.handles[name])

        return part(names, decide, limit, budget, deciding.allowance)


def _certain(graph: Graph, query: Query, slot: int) -> bool:
    """Whether what leads to a question is all that its answer takes: nothing intersects, excludes or has a term."""
    return monotone(graph, slot) and query.extra is None and not any(each.terms for each in graph.edges)


class _Deciding:
    """Checks of one list's candidates, which share the allowance of the list."""

    def __init__(self, engine: RelationEngine, query: Query, steps: int) -> None:
        self._engine = engine
        self._query = query
        self.allowance = Allowance(steps)

    def verdict(self, subject: int, key: int) -> Verdict:
        """The answer for one candidate; ResourceExhausted as for a check."""
        query = self._engine.query(subject, self._query.now, self._query.context)
        query.extra = self._query.extra
        verdict = self._engine.verdict(query, key)
        self.allowance.spend(self._engine.limits.steps - query.steps)
        return verdict

    def entry(self, name: str, subject: int, key: int) -> Found | None:
        """The candidate's entry, if it is allowed or may be."""
        verdict = self.verdict(subject, key)
        if verdict is True:
            return Found(name)
        return None if verdict is False else Found(name, verdict)


class _Reach:
    """Which questions a subject may be in, found from the subject outwards, a bitmap of objects per slot."""

    def __init__(self, graph: Graph, query: Query) -> None:
        self.graph = graph
        self.query = query
        self.found: list[BitMap] = [BitMap() for _ in range(len(graph.slots))]
        self.waiting: list[tuple[int, BitMap]] = []
        self.nodes = set[int]()
        self.computed, self.indirect = _dependents(graph)
        self.extra: dict[tuple[int, int], list[int]] = {}
        for key, subjects in (query.extra or {}).items():
            for subject, _ in subjects:
                self.extra.setdefault((key >> SHIFT, subject), []).append(key & 0xFFFFFFFF)

    def named(self, slot: int, subject: int) -> BitMap:
        """The objects whose relationships name a subject."""
        found = BitMap(every(self.graph.edges[slot].objects.get(subject)))
        found.update(self.extra.get((slot, subject), ()))
        return found

    def node(self, subject: int) -> None:
        """Follow all relationships that name a subject."""
        if subject not in self.nodes:
            self.nodes.add(subject)
            for slot in range(len(self.graph.slots)):
                self.put(slot, self.named(slot, subject))

    def put(self, slot: int, objects: BitMap) -> None:
        """Count objects as reached in a slot."""
        new = objects - self.found[slot]
        if new:
            self.query.spend(1)
            self.found[slot] |= new
            self.waiting.append((slot, new))

    def run(self) -> None:
        """Follow everything to its end."""
        userset_of = self.graph.names.userset_of
        while self.waiting:
            slot, new = self.waiting.pop()
            for other in self.computed[slot]:
                self.put(other, new)
            for other, link in self.indirect[slot]:
                self.query.spend(len(new))
                self.put(other, BitMap.union(BitMap(), *(self.named(link, each) for each in new)))
            for target in new if userset_of else ():
                if (userset := userset_of.get((target, slot))) is not None:
                    self.node(userset)


def _reached(graph: Graph, query: Query, slot: int) -> BitMap:
    reach = _Reach(graph, query)
    if query.own >= 0:
        reach.put(query.own >> SHIFT, BitMap((query.own & 0xFFFFFFFF,)))
    reach.node(query.subject)
    if query.wildcard >= 0:
        reach.node(query.wildcard)
    reach.run()
    return reach.found[slot]


def _dependents(graph: Graph) -> tuple[list[set[int]], list[set[tuple[int, int]]]]:
    """For each slot those that are computed from it, and (slot, link) of those that take it from a parent."""
    slots = graph.slots
    computed: list[set[int]] = [set() for _ in range(len(slots))]
    indirect: list[set[tuple[int, int]]] = [set() for _ in range(len(slots))]
    for slot, relation in enumerate(slots.relations):
        own = slots.by_type[slots.owner[slot]]
        for leaf in leaves(relation.rewrite):
            match leaf:
                case Computed(other):
                    computed[own[other]].add(slot)
                case Indirect(other, tupleset):
                    for parents in slots.by_type:
                        if other in parents:
                            indirect[parents[other]].add((slot, own[tupleset]))
    return computed, indirect


def lookup_subjects(
    engine: RelationEngine,
    target: str,
    relation: str,
    subject_type: str,
    given: Circumstances,
    *,
    subject_relation: str = "",
    after: str = "",
    limit: int = 0,
    budget: int = 0,
) -> Listing:
    """The subjects of a type (or its usersets of `subject_relation`) that stand in the relation to the object.

    A wildcard is listed beside the subjects that are named; who is allowed and not listed is covered by it.
    """
    graph, texts = engine.graph, engine.graph.names.texts
    placeholder = f"{subject_type}:_#{subject_relation}" if subject_relation else f"{subject_type}:_"
    with engine.asked((target, relation, placeholder), given) as (query, key):
        query.steps = engine.limits.list_steps
        kind = graph.names.kind(query.subject)
        sure = _certain(graph, query, key >> SHIFT)
        known = _named(graph, query, key) if sure else _mentioned(graph, query, key)
        known.discard(query.subject)
        everyone = graph.names.wildcard(query.subject)
        known = BitMap(each for each in known if each == everyone or graph.names.kind(each) == kind)
        deciding = _Deciding(engine, query, query.steps)

        def decide(name: str) -> Found | None:
            subject = graph.names.handles[name]
            found = Found(name) if sure else deciding.entry(name, subject, key)
            if found is None or sure or subject != everyone:
                return found
            excluded = sorted(texts[each] for each in known if each != everyone and is_excluded(each))
            return Found(found.reference, found.missing, tuple(excluded))

        def is_excluded(subject: int) -> bool:
            if deciding.allowance.left <= 0:
                raise exhausted(f"who is excluded from {subject_type}:* takes too many steps", [f"{target}#{relation}"])
            return deciding.verdict(subject, key) is False

        return part(ordered((texts[each] for each in known), after, limit), decide, limit, budget, deciding.allowance)


def _named(graph: Graph, query: Query, key: int) -> BitMap:
    """As `_mentioned`, in whole sets: for what nothing is needed but to be led to."""
    slots, names = graph.slots, graph.names
    found, seen, waiting = BitMap(), {key}, [key]
    while waiting:
        here = waiting.pop()
        slot, target = here >> SHIFT, here & 0xFFFFFFFF
        if (userset := names.userset_of.get((target, slot))) is not None:
            found.add(userset)
        own, further = slots.by_type[slots.owner[slot]], list[int]()
        for leaf in leaves(slots.relations[slot].rewrite):
            match leaf:
                case Computed(relation):
                    further.append(own[relation] << SHIFT | target)
                case Indirect(relation, tupleset):
                    for parent in every(graph.edges[own[tupleset]].subjects.get(target)):
                        if (other := slots.by_type[names.types[parent]].get(relation)) is not None:
                            further.append(other << SHIFT | parent)
                case _:
                    found |= bitmap(graph.edges[slot].subjects.get(target))
                    for userset in every(graph.edges[slot].sets.get(target)):
                        owner, other = names.usersets[userset]
                        found.add(userset)
                        further.append(other << SHIFT | owner)
        query.spend(1 + len(further))
        waiting += set(further) - seen
        seen.update(further)
    return found


def _mentioned(graph: Graph, query: Query, key: int) -> BitMap:
    """Every subject that a relationship names anywhere behind a question, and the usersets that lead on."""
    found = BitMap()
    for other, formula in equations(query, key).items():
        if (userset := graph.names.userset_of.get((other & 0xFFFFFFFF, other >> SHIFT))) is not None:
            found.add(userset)
        for each in flat(formula):
            if isinstance(each, Own):
                found.update(subject for subject, _ in stored(query, each.slot, each.target))
    return found
