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
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Verdict
from pyairtable_mesh.runtime.authorization.graph import Graph, every
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


def part(names: Iterable[str], decide: Callable[[str], Found | None], limit: int, budget: int = 0) -> Listing:
    """The first `limit` (0: all) of the names, in their order, that are decided to be entries. After `budget` (0: any
    number) of decisions it stops too, so that a list in which little is allowed holds nobody up.
    """
    entries: list[Found] = []
    last = ""
    for number, name in enumerate(names):
        if (limit and len(entries) == limit) or (budget and number == budget):
            return Listing(tuple(entries), complete=False, resume=last)
        found = decide(name)
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
        candidates = _reached(graph, query, slot)
        sure = monotone(graph, slot) and query.extra is None and not any(each.terms for each in graph.edges)
        texts = graph.names.texts
        names = ordered((texts[each] for each in candidates), after, limit)

        def decide(name: str) -> Found | None:
            if sure:
                return Found(name)
            again = engine.query(query.subject, given.now, given.context)
            again.extra = query.extra
            return _entry(name, engine.verdict(again, slot << SHIFT | graph.names.handles[name]))

        return part(names, decide, limit, budget)


def _entry(name: str, verdict: Verdict) -> Found | None:
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
    graph = engine.graph
    placeholder = f"{subject_type}:_#{subject_relation}" if subject_relation else f"{subject_type}:_"
    with engine.asked((target, relation, placeholder), given) as (query, key):
        kind = graph.names.kind(query.subject)
        known = {graph.names.texts[each] for each in _mentioned(graph, query, key)}
        known.discard(placeholder)

        def verdict(name: str) -> Verdict:
            again = engine.query(graph.names.subject(name), given.now, given.context)
            again.extra = query.extra
            return engine.verdict(again, key)

        def decide(name: str) -> Found | None:
            if not name.endswith(":*"):
                return _entry(name, verdict(name))
            excluded = sorted(each for each in known if each != name and verdict(each) is False)
            found = _entry(name, verdict(name))
            return None if found is None else Found(found.reference, found.missing, tuple(excluded))

        wanted = {kind, f"{kind}:*"}
        names = [name for name in known if graph.names.kind(graph.names.handles[name]) in wanted]
        known = set(names)
        return part(ordered(names, after, limit), decide, limit, budget)


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
