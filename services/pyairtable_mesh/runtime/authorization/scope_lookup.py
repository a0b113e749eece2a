"""Look-ups of the product's engine: what a subject may act on, and who may act on a resource.

Resources are walked in the order of their references, which is kept per type, and each is asked for by `allowed`; where
a subject's bindings reach few of them, only these are looked at. Subjects are calculated as whole sets.
"""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice

from pyroaring import BitMap

from pyairtable_mesh.runtime.authorization.crowds import EVERYBODY, NOBODY, Crowd
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Verdict
from pyairtable_mesh.runtime.authorization.graph import bitmap, every
from pyairtable_mesh.runtime.authorization.identities import GROUP, MEMBER, View
from pyairtable_mesh.runtime.authorization.lookup import Allowance, Certain, Found, Listing, ordered, part
from pyairtable_mesh.runtime.authorization.roles import OWNER, ScopeMode
from pyairtable_mesh.runtime.authorization.scopes import ScopedEngine

FEW = 20
"""A subject's resources are few where they are less than one in so many."""
Crowds = tuple[Crowd, Crowd]
"""Who is in surely, and who possibly."""


class ScopedLookup:
    """Lists of one engine. It keeps the order of each type's references, which needs no more than their names."""

    def __init__(self, engine: ScopedEngine) -> None:
        self._engine = engine
        self._ordered: dict[int, list[str]] = {}
        self._seen = 0

    def resources(
        self,
        type_name: str,
        verb: str,
        subject: str,
        given: Circumstances,
        *,
        after: str = "",
        limit: int = 0,
        budget: int = 0,
    ) -> Listing:
        """The resources of a type that the subject holds a verb on, behind `after`, in byte order; at most `limit` of
        them, and from at most `budget` candidates.
        """
        engine, names = self._engine, self._engine.graph.names
        self._sort()
        with engine.view(given) as view:
            names.object(f"{type_name}:_", "resource_type")
            permission = engine.verb(names.handles[f"{type_name}:_"], verb)
            who = names.subject(subject, "subject")
            # Without a request's circumstances, and where nothing hangs on context, the fast way is exact.
            plain = not given.context and not given.contextual
            allowance = Allowance(engine.limits.list_steps)

            def decide(name: str) -> Found | None:
                handle, before = names.handles[name], engine.identities.spent
                found = entry(name, handle)
                allowance.spend(engine.identities.spent - before)
                return found

            def entry(name: str, handle: int) -> Found | None:
                if engine.allowed(who, permission, handle, given.now) and not given.contextual:
                    return Found(name)
                if plain and not engine.held(who, handle, given.now).possible & permission:
                    return None
                verdict = engine.verdict(view, who, handle, permission)
                allowance.spend(len(engine.identities.within(view, who)))
                return None if verdict is False else Found(name, frozenset() if verdict is True else verdict)

            return part(self._candidates(type_name, who, view, after, limit), decide, limit, budget, allowance)

    def _candidates(self, type_name: str, who: int, view: View, after: str, limit: int) -> Iterable[str]:
        engine, names = self._engine, self._engine.graph.names
        index = engine.graph.slots.type_index[type_name]
        everything = self._ordered.get(index, [])
        places = engine.bindings.places
        tops = {place for each in engine.identities.within(view, who) for place in every(places.get(each))}
        if view.parents:
            new = {names.texts[each] for each in view.parents if names.types[each] == index}
            return ordered(new.union(everything), after, 0)
        if engine.root in tops:
            return _behind(everything, after)
        below = self._below(tops, type_name)
        if len(below) * FEW > len(everything):
            return _behind(everything, after)
        return ordered((names.texts[each] for each in below), after, limit)

    def _below(self, tops: Iterable[int], type_name: str) -> BitMap:
        """All objects of a type at or below some resources."""
        graph, policy = self._engine.graph, self._engine.policy
        way = [type_name]
        while policy.parents.get(way[-1], policy.root) != policy.root:
            way.append(policy.parents[way[-1]])
        found = BitMap()
        starts = BitMap(tops)
        for name in reversed(way):
            index = graph.slots.type_index[name]
            slot = graph.slots.by_type[index].get(policy.links.get(name, ""), -1)
            children = (graph.edges[slot].objects.get(each) for each in found) if slot >= 0 else ()
            found = BitMap.union(BitMap(), *map(bitmap, children))
            found.update(each for each in starts if graph.names.types[each] == index)
        return found

    def _sort(self) -> None:
        names = self._engine.graph.names
        fresh: dict[int, list[str]] = {}
        for handle in range(self._seen, len(names)):
            text = names.texts[handle]
            if handle not in names.usersets and not text.endswith(":*"):
                fresh.setdefault(names.types[handle], []).append(text)
        self._seen = len(names)
        for index, texts in fresh.items():
            known = self._ordered.setdefault(index, [])
            if len(texts) > 100:  # noqa: PLR2004 # a merge is cheaper than so many insertions
                known += texts
                known.sort()
            else:
                for text in texts:
                    insort(known, text)

    def subjects(
        self,
        resource: str,
        verb: str,
        subject_type: str,
        given: Circumstances,
        *,
        usersets: bool = False,
        after: str = "",
        limit: int = 0,
        budget: int = 0,
    ) -> Listing:
        """The subjects of a type (or, with `usersets`, the members of groups, ``group:…#member``) that hold a verb on a
        resource, behind `after`, in byte order; at most `limit` of them and, where context decides, from at most
        `budget` candidates. ``type:*`` stands for all that are not excluded, also those that nothing is stored about.
        """
        engine, names = self._engine, self._engine.graph.names
        with engine.view(given, engine.limits.list_steps) as view:
            target = names.object(resource, "resource")
            permission = engine.verb(target, verb)
            names.object(f"{subject_type}:_", "subject_type")
            index = engine.graph.slots.type_index[subject_type]
            sure, possible = _Who(engine, view, index, permission, usersets=usersets).effective(target)
            texts = names.texts
            # Beside a wildcard only those are listed whose answer may be another than its own.
            listed = sure.members - possible.members if possible.inverted else possible.members
            found = [texts[each] for each in listed]
            if possible.inverted:
                found.append(f"{subject_type}:*")
            if not possible.inverted and sure == possible:
                names_behind = list(islice(ordered(found, after, limit), limit + 1 if limit else None))
                complete = not limit or len(names_behind) <= limit
                if complete:
                    return Listing(Certain(names_behind), complete=True)
                return Listing(Certain(names_behind[:limit]), complete=False, resume=names_behind[limit - 1])

            def decide(name: str) -> Found | None:
                if name.endswith(":*"):
                    named = sorted(texts[each] for each in possible.members)
                    return Found(name, self._missing(view, name, target, permission, sure=sure.inverted), tuple(named))
                return Found(name, self._missing(view, name, target, permission, sure=sure.has(names.handles[name])))

            return part(ordered(found, after, limit), decide, limit, budget, Allowance(engine.limits.list_steps))

    def _missing(self, view: View, name: str, target: int, permission: int, *, sure: bool) -> frozenset[str]:
        if sure:
            return frozenset()
        verdict = self._engine.verdict(view, self._engine.graph.names.subject(name), target, permission)
        return verdict if isinstance(verdict, frozenset) else frozenset()


def _behind(names: list[str], after: str) -> Iterator[str]:
    return (names[index] for index in range(bisect_right(names, after), len(names)))


class _Who:
    """effective(s, r) for all subjects of a type, or for all groups' members, at once: the definitions of scopes.py on
    sets.
    """

    def __init__(self, engine: ScopedEngine, view: View, index: int, permission: int, *, usersets: bool) -> None:
        self._engine = engine
        self._view = view
        self._index = index
        self._permission = permission
        self._usersets = usersets
        group = engine.graph.slots.type_index[GROUP]
        self._slot = engine.graph.slots.by_type[group][MEMBER]
        self._known: dict[int, tuple[BitMap, BitMap]] = {}
        self._joined: dict[int, list[tuple[int, Verdict]]] = {}
        for subject, groups in view.groups.items():
            for each, term in groups:
                verdict = engine.identities.term(term, view.now, view.context)
                self._joined.setdefault(each, []).append((subject, verdict))

    def effective(self, target: int) -> Crowds:
        engine = self._engine
        held: Crowds = NOBODY, NOBODY
        owners: Crowds = NOBODY, NOBODY
        for each in reversed(engine.chain_in(self._view, target)):
            own, present, owning = _Tally(), _Tally(), _Tally()
            mode = engine.modes.get(each, ScopeMode.INHERIT)
            for bound in engine.bindings.here(each):
                gives = engine.roles.get(bound.role, 0) & self._permission != 0
                if not gives and mode is not ScopeMode.OVERRIDE:
                    continue
                verdict = engine.identities.term(bound.term, self._view.now, self._view.context)
                crowds = self._counting(bound.subject, verdict)
                present.add(crowds)
                if gives:
                    own.add(crowds)
                if bound.role == OWNER and engine.roles.get(OWNER, 0) & self._permission:
                    owning.add(crowds)
            owners = _union(owners, owning.crowds())
            reduced = self._reduced(mode, own.crowds(), present.crowds(), held)
            held = _union(reduced, owners)
        return held

    @staticmethod
    def _reduced(mode: ScopeMode, own: Crowds, present: Crowds, above: Crowds) -> Crowds:
        match mode:
            case ScopeMode.INHERIT:
                return _union(own, above)
            case ScopeMode.RESTRICT:
                return _intersection(own, above)
            case ScopeMode.OVERRIDE:
                absent = present[1].complement(), present[0].complement()
                return _union(_intersection(present, own), _intersection(absent, above))

    def _counting(self, subject: int, verdict: Verdict) -> Crowds:
        """Who of the type counts as a binding's subject."""
        if verdict is False:
            return NOBODY, NOBODY
        names = self._engine.graph.names
        if subject in names.usersets:
            group = names.usersets[subject][0]
            if group not in self._known:
                self._known[group] = self._members(group)
            sure, possible = self._known[group]
            crowds = self._of_type(sure), self._of_type(possible)
        elif self._usersets or names.types[subject] != self._index:
            return NOBODY, NOBODY
        elif names.wildcards.get(self._index) == subject:
            crowds = EVERYBODY, EVERYBODY
        else:
            one = Crowd(BitMap((subject,)))
            crowds = one, one
        return crowds if verdict is True else (NOBODY, crowds[1])

    def _of_type(self, found: BitMap) -> Crowd:
        if self._usersets:
            return Crowd(found)
        return Crowd(found & self._engine.graph.names.objects[self._index])

    def _members(self, group: int) -> tuple[BitMap, BitMap]:
        """All members of a group, through nested ones, or of these the groups: surely, and possibly."""
        graph = self._engine.graph
        edges, usersets = graph.edges[self._slot], graph.names.usersets
        best: dict[int, bool] = {}
        sure, possible = BitMap(), BitMap()
        waiting = [(group, True)]
        while waiting:
            here, certain = waiting.pop()
            if best.get(here, False) or (here in best and not certain):
                continue
            best[here] = certain
            stored = bitmap(edges.subjects.get(here))
            termed = self._termed(here, stored) if edges.terms else {}
            plain = stored - BitMap(termed) if termed else stored
            possible |= plain
            if certain:
                sure |= plain
            nested = every(edges.sets.get(here))
            others = self._termed(here, nested)
            unconditional = [(each, True) for each in nested if each not in others]
            for each, verdict in (*termed.items(), *others.items(), *unconditional, *self._joined.get(here, ())):
                if verdict is False:
                    continue
                if each in usersets:
                    waiting.append((usersets[each][0], certain and verdict is True))
                else:
                    possible.add(each)
                    if certain and verdict is True:
                        sure.add(each)
        if self._usersets:
            of = graph.names.userset_of
            groups = {of[each, self._slot]: certain for each, certain in best.items() if (each, self._slot) in of}
            return BitMap(each for each, certain in groups.items() if certain), BitMap(groups)
        return sure, possible

    def _termed(self, group: int, members: Iterable[int]) -> dict[int, Verdict]:
        """The members of a group that are so under a term, with its verdict."""
        terms, view, verdict = self._engine.graph.edges[self._slot].terms, self._view, self._engine.identities.term
        found = ((each, terms.get((group, each))) for each in members)
        return {each: verdict(term, view.now, view.context) for each, term in found if term is not None}


class _Tally:
    """Adds up crowds in place: there may be many bindings at one resource."""

    def __init__(self) -> None:
        self._members = BitMap(), BitMap()
        self._everybody = [False, False]

    def add(self, crowds: Crowds) -> None:
        """Count who is bound; a binding's crowd is a few, or everybody."""
        for index, crowd in enumerate(crowds):
            self._everybody[index] |= crowd.inverted
            members = self._members[index]
            members |= crowd.members

    def crowds(self) -> Crowds:
        """Everybody who was counted."""
        sure, possible = (
            EVERYBODY if everybody else Crowd(members)
            for members, everybody in zip(self._members, self._everybody, strict=True)
        )
        return sure, possible


def _union(one: Crowds, other: Crowds) -> Crowds:
    return one[0].union(other[0]), one[1].union(other[1])


def _intersection(one: Crowds, other: Crowds) -> Crowds:
    return one[0].intersection(other[0]), one[1].intersection(other[1])
