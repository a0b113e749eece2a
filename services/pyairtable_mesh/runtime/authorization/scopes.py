"""The engine of the product's space: roles bound to resources of a hierarchy, scope modes, groups.

own(s, r) is the union of the permissions of the roles bound at r to s, to ``type:*`` of its type or to any group that
s is in. effective(s, r) is, by the mode of r:

- INHERIT: own(s, r) | effective(s, parent)
- RESTRICT: own(s, r) & effective(s, parent)
- OVERRIDE: own(s, r) where s has any binding at r, else effective(s, parent)

and always also the permissions of the owner role, where that one is bound to s at r or anywhere above: owners are
never reduced. A resource without a parent inherits nothing. Verdicts are three-valued (verdicts.py): a binding or
membership whose condition lacks context counts as unknown, and so does an OVERRIDE that hangs on it.

Effective permissions of one subject at one resource are one integer (`Held`); kept for the revision and for the span
of time in which nothing expires, and only what was computed without a request's context. An object with neither
bindings nor a mode of its own has those of its parent, so nothing is kept for each record.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyairtable_mesh.runtime.authorization.bindings import Bound
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Decision, Verdict, refused
from pyairtable_mesh.runtime.authorization.graph import every
from pyairtable_mesh.runtime.authorization.identities import Known, View
from pyairtable_mesh.runtime.authorization.roles import OWNER, ScopeMode
from pyairtable_mesh.runtime.authorization.scope_rules import NOTHING, Held, Missing, combine
from pyairtable_mesh.runtime.authorization.scope_state import ScopedState
from pyairtable_mesh.runtime.authorization.verdicts import both
from pyairtable_mesh.runtime.errors import MeshError

MAX_KEPT = 2_000_000
"""How many (subject, resource) pairs are kept before all are forgotten."""
Question = tuple[str, str, str]
"""(resource, verb, subject)."""
_NO_CIRCUMSTANCES: Mapping[str, Any] = {}


class ScopedEngine(ScopedState):
    """One tenant's hierarchy, groups, roles, bindings and modes at one revision, and answers from them.

    Synchronous and for one thread. `root` is the tenant, ``tenant:ten…``: whatever the model puts directly below a
    tenant is below this one.
    """

    def handle(self, reference: str) -> int:
        """The handle of a resource or subject, for `allowed`; it is interned for the life of the engine."""
        return self.graph.names.subject(reference)

    def permission(self, name: str) -> int:
        """The bit of ``type.verb``, for `allowed`."""
        return self.policy.mask([name])

    def allowed(self, subject: int, permission: int, resource: int, now: float) -> bool:
        """Whether the subject holds a permission at a resource whatever the context, by handles; the fast way."""
        if self._begin <= now < self._end:
            try:
                return self._sure[subject][self._anchors[resource]] & permission != 0
            except (KeyError, IndexError):
                pass
        return self._allowed(subject, permission, resource, now)

    def _allowed(self, subject: int, permission: int, resource: int, now: float) -> bool:
        if resource not in self._own:
            above = self.parent(resource)
            if above is None:
                return False
            resource = above
        return self.held(subject, resource, now).sure & permission != 0

    def check(self, question: Question, given: Circumstances) -> Decision:
        """The answer to one question."""
        target, verb, subject = question
        handles = self.graph.names.handles
        try:
            resource, who = handles[target], handles[subject]
            permission = self._verbs[self.graph.names.types[resource]][verb]
        except KeyError:
            return self._check(question, given)
        if given.contextual:
            return self._check(question, given)
        if self.allowed(who, permission, resource, given.now):
            return self._decisions[0]
        if not self.held(who, resource, given.now).possible & permission:
            return self._decisions[1]
        return self._check(question, given)

    def batch(self, questions: Sequence[Question], given: Circumstances) -> list[Decision | MeshError]:
        """An answer or an error for each question."""
        found: list[Decision | MeshError] = []
        for each in questions:
            try:
                found.append(self.check(each, given))
            except MeshError as error:
                found.append(error)
        return found

    def _check(self, question: Question, given: Circumstances) -> Decision:
        with self.view(given) as view:
            target, verb, subject = question
            resource = self.graph.names.object(target, "resource")
            permission = self.verb(resource, verb)
            who = self.graph.names.subject(subject, "subject")
            return Decision.of(self.verdict(view, who, resource, permission), self.revision)

    def verb(self, resource: int, verb: str) -> int:
        """The bit of a verb of a resource's type; InvalidArgument UNKNOWN_PERMISSION."""
        found = self._verbs[self.graph.names.types[resource]].get(verb)
        if found is None:
            name = self.graph.slots.types[self.graph.names.types[resource]]
            raise refused("permission", f"a {name} has no {verb!r}", "UNKNOWN_PERMISSION")
        return found

    def view(self, given: Circumstances, steps: int = 0) -> View:
        """The state with a request's circumstances on top, while it is entered; its conditions have so many steps, or
        those of a check.
        """
        self.identities.begin(steps)
        if given.contextual:
            self.conditions.compile(each.term for each in given.contextual)
        return View(self.graph, given)

    def verdict(self, view: View, subject: int, resource: int, permission: int) -> Verdict:
        """Whether the subject holds a permission in a view, with the context that is missing for it."""
        held, missing = self.held_in(view, subject, resource)
        if held.sure & permission:
            return True
        return missing(permission) if held.possible & permission else False

    def effective(
        self, resource: str, subject: str, given: Circumstances
    ) -> tuple[Sequence[str], dict[str, frozenset[str]]]:
        """Every permission that the subject holds at the resource or, where nothing else is said, below it: those
        held surely, and those that missing context decides with its names, as ``type.verb`` in byte order.
        """
        names = self.graph.names
        who, place = names.handles.get(subject), names.handles.get(resource)
        if who is not None and place is not None and not given.contextual and not given.context:
            plain = self.held(who, place, given.now)
            if plain.sure == plain.possible:
                return self.policy.names(plain.sure), {}
        with self.view(given) as view:
            held, missing = self.held_in(view, names.subject(subject, "subject"), names.object(resource, "resource"))
        unsure = self.policy.names(held.possible & ~held.sure)
        return self.policy.names(held.sure), {each: missing(self.policy.mask([each])) for each in unsure}

    def exceptions(self, resource: str, type_name: str) -> list[str]:
        """The children of a resource, of one type, that have bindings or a scope mode of their own, in byte order:
        whoever wants masks asks `effective` of each of these, and of the resource for all others.
        """
        names, slots = self.graph.names, self.graph.slots
        handle = names.handles.get(resource)
        link = slots.by_type[slots.type_index[type_name]].get(self.policy.links.get(type_name, ""))
        if handle is None or link is None:
            return []
        return sorted(
            names.texts[each] for each in every(self.graph.edges[link].objects.get(handle)) if each in self._own
        )

    def held(self, subject: int, resource: int, now: float) -> Held:
        """What a subject holds at a resource by what is stored, without any context."""
        if not self._begin <= now < self._end:
            self._turn(now)
        kept = self._kept.setdefault(subject, {})
        found = kept.get(resource)
        if found is None:
            self.identities.begin()
            above = self.parent(resource)
            found = NOTHING if above is None else self.held(subject, above, now)
            if resource in self._own:
                known = self.identities.of(subject, now)
                found = self._combined(resource, known, found, now, _NO_CIRCUMSTANCES)
            if self._count >= MAX_KEPT:
                self.forget()
                self._turn(now)
                kept = self._kept.setdefault(subject, {})
            self._count += 1
            self._asked.add(resource)
            kept[resource] = found
            self._sure.setdefault(subject, {})[resource] = found.sure
        return found

    def _turn(self, now: float) -> None:
        self.forget()
        self._begin, self._end = self.expiries.around(now)

    def held_in(self, view: View, subject: int, resource: int) -> tuple[Held, Missing]:
        """What a subject holds at a resource in a view, and what names the missing context of a permission."""
        missing = Missing()
        along = dict(self.held_along(view, subject, resource, missing))
        return along[resource], missing

    def held_along(
        self, view: View, subject: int, resource: int, missing: Missing | None = None
    ) -> Iterator[tuple[int, Held]]:
        """What a subject holds in a view at all that the resource inherits from, farthest first, and at itself."""
        known = self.identities.within(view, subject)
        held = NOTHING
        for each in reversed(self.chain_in(view, resource)):
            if each in self._own:
                held = self._combined(each, known, held, view.now, view.context, missing)
            yield each, held

    def chain_in(self, view: View, resource: int) -> list[int]:
        """The resource and all that it inherits from in a view, nearest first."""
        found = [resource]
        while (above := view.parents.get(found[-1], self.parent(found[-1]))) is not None:
            found.append(above)
        return found

    def own(
        self, resource: int, known: Known, now: float, context: Mapping[str, Any]
    ) -> Iterator[tuple[Bound, Verdict]]:
        """The bindings at a resource that count for what a subject counts as, each with its verdict."""
        here = self.bindings.at.get(resource, {})
        fewer, others = (known, here) if len(known) < len(here) else (here, known)
        for subject in fewer:
            if subject not in others:
                continue
            for each in here[subject]:
                holds = known[subject]
                if each.term:
                    holds = both(holds, self.identities.term(each.term, now, context))
                if holds is not False:
                    yield each, holds

    def _combined(
        self,
        resource: int,
        known: Known,
        above: Held,
        now: float,
        context: Mapping[str, Any],
        missing: Missing | None = None,
    ) -> Held:
        """What is held at a resource with what is bound there, from what is held above."""
        own = [
            (self.roles.get(each.role, 0), each.role == OWNER, holds)
            for each, holds in self.own(resource, known, now, context)
        ]
        return combine(self.modes.get(resource, ScopeMode.INHERIT), own, above, self.roles.get(OWNER, 0), missing)
