"""What a subject counts as: itself, all of its type, and the groups that it is in, through however many others."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pyairtable_mesh.runtime.authorization.facts import Circumstances, Limits, Term, Verdict, exhausted
from pyairtable_mesh.runtime.authorization.graph import Graph, every
from pyairtable_mesh.runtime.authorization.query import SHIFT, Evaluate, metered, overlay
from pyairtable_mesh.runtime.authorization.verdicts import both, either

MEMBER = "member"
GROUP = "group"
Known = Mapping[int, Verdict]
"""What a subject counts as, by handle, with the verdict of counting as it (never False)."""


class View:
    """The stored state with one request's circumstances on top. Entered, its contextual names are in the graph's."""

    def __init__(self, graph: Graph, given: Circumstances) -> None:
        self._graph = graph
        self._given = given
        self._mark = len(graph.names)
        self.now = given.now
        self.context: Mapping[str, Any] = given.context
        self.parents: dict[int, int] = {}
        self.groups: dict[int, list[tuple[int, Term]]] = {}
        """For each subject the groups that it is in by a contextual relationship."""
        self.known: dict[int, Known] = {}
        """What was found of subjects in this view."""

    def __enter__(self) -> Self:
        self._mark = len(self._graph.names)
        try:
            self._read(overlay(self._graph, self._given) or {})
        except BaseException:
            self._graph.names.rollback(self._mark)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._graph.names.rollback(self._mark)

    def _read(self, extra: Mapping[int, list[tuple[int, Term]]]) -> None:
        names = self._graph.names
        for key, subjects in extra.items():
            target, relation = key & 0xFFFFFFFF, self._graph.slots.relations[key >> SHIFT].name
            for subject, term in subjects:
                if relation == MEMBER:
                    names.subject(f"{names.texts[target]}#{MEMBER}")
                    self.groups.setdefault(subject, []).append((target, term))
                else:
                    self.parents[target] = subject


class Identities:
    """Finds what subjects count as; what needs no context is kept until `forget`."""

    def __init__(self, graph: Graph, evaluate: Evaluate, limits: Limits) -> None:
        self._graph = graph
        self._evaluate = evaluate
        self._limits = limits
        self._kept: dict[int, Known] = {}
        group = graph.slots.type_index[GROUP]
        self._slot = graph.slots.by_type[group][MEMBER]
        self.spent = 0
        """Steps that conditions have taken since the engine was made."""
        self._until = limits.steps

    def forget(self, subject: int | None = None) -> None:
        """Forget what was kept for a subject, or for all: memberships or the time have changed."""
        if subject is None:
            self._kept.clear()
        else:
            self._kept.pop(subject, None)

    def of(self, subject: int, now: float) -> Known:
        """What a subject counts as by what is stored; a condition without stored values for all is unknown."""
        known = self._kept.get(subject)
        if known is None:
            known = self._kept[subject] = self._follow(subject, now, {}, {})
        return known

    def within(self, view: View, subject: int) -> Known:
        """What a subject counts as in a view."""
        known = view.known.get(subject)
        if known is None:
            known = view.known[subject] = self._follow(subject, view.now, view.context, view.groups)
        return known

    def term(self, term: Term, now: float, context: Mapping[str, Any]) -> Verdict:
        """Whether a term holds. ResourceExhausted where the conditions of a question take more steps than it has."""
        if term.expires is not None and now >= term.expires:
            return False
        if not term.condition:
            return True
        verdict, steps = metered(self._evaluate, term, context)
        self.spent += steps
        if self.spent > self._until:
            raise exhausted("the answer hangs on more conditions than it may evaluate", [term.condition])
        return verdict

    def begin(self, steps: int = 0) -> None:
        """A question begins, or a part of one: its conditions have so many steps, or those of a check."""
        self._until = self.spent + (steps or self._limits.steps)

    def groups(self, subject: int, view: View | None = None) -> Iterator[tuple[int, Term]]:
        """The groups that a subject is in directly, as their members' usersets, with the terms."""
        edges, userset_of = self._graph.edges[self._slot], self._graph.names.userset_of
        for group in every(edges.objects.get(subject)):
            yield userset_of[group, self._slot], edges.terms.get((group, subject), Term())
        for group, term in view.groups.get(subject, ()) if view else ():
            yield userset_of[group, self._slot], term

    def _follow(
        self,
        subject: int,
        now: float,
        context: Mapping[str, Any],
        contextual: Mapping[int, list[tuple[int, Term]]],
    ) -> Known:
        names, edges = self._graph.names, self._graph.edges[self._slot]
        known: dict[int, Verdict] = {subject: True}
        came: dict[int, int] = {subject: -1}
        depth = {subject: 0}
        queue = deque([subject])
        while queue:
            member = queue.popleft()
            stored = ((group, edges.terms.get((group, member))) for group in every(edges.objects.get(member)))
            for group, term in (*stored, *contextual.get(member, ())):
                holds = known[member] if term is None else both(known[member], self.term(term, now, context))
                userset = names.userset_of[group, self._slot]
                before = known.get(userset, False)
                after = either(before, holds)
                if after == before:
                    continue
                known[userset] = after
                if userset not in came:
                    came[userset], depth[userset] = member, depth[member] + 1
                self._require_bounded(userset, depth, came)
                queue.append(userset)
        if (everyone := names.wildcard(subject)) >= 0:
            known[everyone] = True
        return known

    def _require_bounded(self, userset: int, depth: Mapping[int, int], came: Mapping[int, int]) -> None:
        if depth[userset] > self._limits.depth or len(depth) > self._limits.steps:
            path = [userset]
            while came[path[-1]] >= 0:
                path.append(came[path[-1]])
            words = f"groups are nested deeper than {self._limits.depth}, or more than {self._limits.steps}"
            raise exhausted(words, [self._graph.names.texts[each] for each in reversed(path)])
