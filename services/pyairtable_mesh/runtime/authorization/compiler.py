"""A schema compiled once: for each slot a closure that answers whether the query's subject is in it.

The closures walk from the object towards the subject, depth first, and stop at the first allowing way. What was
answered within one query is kept for it, unless it hangs on a question that is still open (`Query.cut`).
"""

from collections.abc import Callable, Sequence

from pyairtable_mesh.runtime.authorization.facts import Term, Verdict, exhausted
from pyairtable_mesh.runtime.authorization.graph import Graph, every
from pyairtable_mesh.runtime.authorization.language import syntax
from pyairtable_mesh.runtime.authorization.language.syntax import (
    Computed,
    Direct,
    Exclusion,
    Indirect,
    Intersection,
    Rewrite,
    Union,
)
from pyairtable_mesh.runtime.authorization.query import NO_CUT, SHIFT, Query, UnstratifiedError
from pyairtable_mesh.runtime.authorization.verdicts import both, either, negation

Answer = Callable[[Query, int], Verdict]


def compile_schema(graph: Graph) -> list[Answer]:
    """One closure per slot, bound to the graph's maps."""
    answers: list[Answer] = []
    for slot, relation in enumerate(graph.slots.relations):
        body = _rewrite(graph, answers, slot, relation.rewrite)
        answers.append(_question(slot, body))
    return answers


def _question(slot: int, body: Answer) -> Answer:
    base = slot << SHIFT

    def ask(query: Query, target: int) -> Verdict:
        key = base | target
        known = query.known.get(key)
        if known is not None:
            return known
        if key == query.own:
            return True
        opened = query.open.get(key)
        if opened is not None:
            query.cut = min(query.cut, opened)
            return False
        depth = len(query.open)
        if depth >= query.limits.depth:
            raise exhausted(f"the answer is nested deeper than {query.limits.depth}", query.path())
        query.spend(1)
        query.open[key] = depth
        before, query.cut = query.cut, NO_CUT
        verdict = body(query, target)
        del query.open[key]
        # True is a proof whatever was cut; anything else is final only if nothing above was needed for it.
        if verdict is True or query.cut >= depth:
            query.known[key] = verdict
            query.cut = before
        else:
            query.cut = min(before, query.cut)
        return verdict

    return ask


def _rewrite(graph: Graph, answers: Sequence[Answer], slot: int, rewrite: Rewrite) -> Answer:
    match rewrite:
        case Direct():
            return _direct(graph, answers, slot)
        case Computed(relation):
            return _computed(answers, graph.slots.by_type[graph.slots.owner[slot]][relation])
        case Indirect(relation, tupleset):
            return _indirect(graph, answers, graph.slots.by_type[graph.slots.owner[slot]][tupleset], relation)
        case Union(children):
            return _union([_rewrite(graph, answers, slot, each) for each in children])
        case Intersection(children):
            return _intersection([_rewrite(graph, answers, slot, each) for each in children])
        case Exclusion(base, subtracted):
            return _exclusion(_rewrite(graph, answers, slot, base), _rewrite(graph, answers, slot, subtracted))


def _direct(graph: Graph, answers: Sequence[Answer], slot: int) -> Answer:
    edges, usersets, base = graph.edges[slot], graph.names.usersets, slot << SHIFT
    sets, terms = edges.sets, edges.terms
    stored, member = _stored(graph, slot), _member(graph, answers)

    def contextual(query: Query, found: Sequence[tuple[int, Term]]) -> Verdict:
        verdict: Verdict = False
        for subject, term in found:
            if subject in (query.subject, query.wildcard):
                verdict = either(verdict, query.term(term))
            elif subject in usersets:
                verdict = either(verdict, member(query, subject, term))
        return verdict

    def direct(query: Query, target: int) -> Verdict:
        verdict = stored(query, target, query.subject)
        if verdict is not True and query.wildcard >= 0:
            verdict = either(verdict, stored(query, target, query.wildcard))
        if verdict is True:
            return True
        for subject in every(sets.get(target)):
            verdict = either(verdict, member(query, subject, terms.get((target, subject)) if terms else None))
            if verdict is True:
                return True
        extra = query.extra
        return verdict if extra is None else either(verdict, contextual(query, extra.get(base | target, ())))

    return direct


def _member(graph: Graph, answers: Sequence[Answer]) -> Callable[[Query, int, Term | None], Verdict]:
    usersets = graph.names.usersets

    def member(query: Query, subject: int, term: Term | None) -> Verdict:
        owner, relation = usersets[subject]
        holds = True if term is None else query.term(term)
        return False if holds is False else both(holds, answers[relation](query, owner))

    return member


def _stored(graph: Graph, slot: int) -> Callable[[Query, int, int], Verdict]:
    edges, usersets = graph.edges[slot], graph.names.usersets
    subjects, sets, terms = edges.subjects, edges.sets, edges.terms

    def stored(query: Query, target: int, subject: int) -> Verdict:
        found = (sets if subject in usersets else subjects).get(target)
        if found is None or not (found == subject if isinstance(found, int) else subject in found):
            return False
        term = terms.get((target, subject)) if terms else None
        return True if term is None else query.term(term)

    return stored


def _computed(answers: Sequence[Answer], other: int) -> Answer:
    def computed(query: Query, target: int) -> Verdict:
        return answers[other](query, target)

    return computed


def _indirect(graph: Graph, answers: Sequence[Answer], tupleset: int, relation: str) -> Answer:
    edges, types, base = graph.edges[tupleset], graph.names.types, tupleset << SHIFT
    links, terms = edges.subjects, edges.terms
    slot_of = [slots.get(relation, -1) for slots in graph.slots.by_type]

    def indirect(query: Query, target: int) -> Verdict:
        verdict: Verdict = False
        found = links.get(target)
        if found is not None:
            for parent in (found,) if isinstance(found, int) else found:
                term = terms.get((target, parent)) if terms else None
                verdict = either(verdict, above(query, parent, term))
                if verdict is True:
                    return True
        if query.extra is not None:
            for parent, term in query.extra.get(base | target, ()):
                verdict = either(verdict, above(query, parent, term))
        return verdict

    def above(query: Query, parent: int, term: Term | None) -> Verdict:
        slot = slot_of[types[parent]]
        holds = True if term is None else query.term(term)
        return False if slot < 0 or holds is False else both(holds, answers[slot](query, parent))

    return indirect


def _union(children: Sequence[Answer]) -> Answer:
    def union(query: Query, target: int) -> Verdict:
        verdict: Verdict = False
        for child in children:
            verdict = either(verdict, child(query, target))
            if verdict is True:
                return True
        return verdict

    return union


def _intersection(children: Sequence[Answer]) -> Answer:
    def intersection(query: Query, target: int) -> Verdict:
        verdict: Verdict = True
        for child in children:
            verdict = both(verdict, child(query, target))
            if verdict is False:
                return False
        return verdict

    return intersection


def _exclusion(base: Answer, subtracted: Answer) -> Answer:
    def exclusion(query: Query, target: int) -> Verdict:
        verdict = base(query, target)
        if verdict is False:
            return False
        before, query.cut = query.cut, NO_CUT
        without = subtracted(query, target)
        if without is not True and query.cut != NO_CUT:
            raise UnstratifiedError
        query.cut = before
        return both(verdict, negation(without))

    return exclusion


def monotone(graph: Graph, slot: int) -> bool:
    """Whether nothing behind a slot, through whatever relation, intersects or excludes."""
    slots, seen, waiting = graph.slots, {slot}, [slot]
    while waiting:
        here = waiting.pop()
        if _combines(slots.relations[here].rewrite):
            return False
        for found in dependencies(graph, here) - seen:
            seen.add(found)
            waiting.append(found)
    return True


def dependencies(graph: Graph, slot: int) -> set[int]:
    """The slots that a slot's definition looks at."""
    slots, found = graph.slots, set[int]()
    owner = slots.owner[slot]
    for leaf in syntax.leaves(slots.relations[slot].rewrite):
        match leaf:
            case Direct(subjects):
                found |= {slots.by_type[slots.type_index[s.type]][s.relation] for s in subjects if s.relation}
            case Computed(relation):
                found.add(slots.by_type[owner][relation])
            case Indirect(relation, tupleset):
                parents = slots.relations[slots.by_type[owner][tupleset]].admitted
                indexes = {slots.by_type[slots.type_index[each.type]].get(relation) for each in parents}
                found |= {each for each in indexes if each is not None}
    return found


def _combines(rewrite: Rewrite) -> bool:
    return isinstance(rewrite, Intersection | Exclusion) or any(map(_combines, syntax.children(rewrite)))
