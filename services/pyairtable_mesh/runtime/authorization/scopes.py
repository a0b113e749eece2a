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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from pyairtable_mesh.runtime.authorization.conditions import Conditions
from pyairtable_mesh.runtime.authorization.facts import (
    Change,
    Circumstances,
    Decision,
    Limits,
    Relationship,
    Term,
    Verdict,
    refused,
)
from pyairtable_mesh.runtime.authorization.graph import Graph
from pyairtable_mesh.runtime.authorization.identities import MEMBER, Identities, Known, View
from pyairtable_mesh.runtime.authorization.names import Slots
from pyairtable_mesh.runtime.authorization.policy import Policy
from pyairtable_mesh.runtime.authorization.roles import (
    Binding,
    BindingChange,
    Expiries,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopeMode,
)
from pyairtable_mesh.runtime.authorization.scope_rules import NOTHING, Bound, Held, Missing, combine
from pyairtable_mesh.runtime.authorization.verdicts import both
from pyairtable_mesh.runtime.errors import MeshError

OWNER = "owner"
MAX_KEPT = 2_000_000
"""How many (subject, resource) pairs are kept before all are forgotten."""
Question = tuple[str, str, str]
"""(resource, verb, subject)."""
_NO_CIRCUMSTANCES: Mapping[str, Any] = {}


class ScopedEngine:
    """One tenant's hierarchy, groups, roles, bindings and modes at one revision, and answers from them.

    Synchronous and for one thread. `root` is the tenant, ``tenant:ten…``: whatever the model puts directly below a
    tenant is below this one.
    """

    def __init__(self, policy: Policy, root: str, limits: Limits = Limits()) -> None:  # noqa: B008 # immutable
        self.policy = policy
        self.limits = limits
        self.revision = 0
        self.graph = Graph(Slots(policy.schema))
        self.conditions = Conditions(policy.schema)
        self.root = self.graph.names.object(root)
        self.roles: dict[str, int] = {}
        self.bindings: dict[str, Binding] = {}
        self.bound: dict[int, list[Bound]] = {}
        self.modes: dict[int, ScopeMode] = {}
        self.places: dict[int, set[int]] = {}
        """For each subject that has bindings the resources where they are."""
        self.expiries = Expiries()
        self.identities = Identities(self.graph, self.conditions.evaluate, limits)
        self._verbs = policy.verb_bits(self.graph.slots)
        self._links = self._linked()
        self._own: set[int] = set()
        self._kept: dict[int, dict[int, Held]] = {}
        self._sure: dict[int, dict[int, int]] = {}
        self._asked: set[int] = set()
        """Resources that something is kept for; what is not in it can be moved without forgetting anything."""
        self._stale: set[int] | None = set()
        """Subjects whose answers the changes in hand touch; None for all."""
        self._count = 0
        self._begin, self._end = -inf, inf
        self._decisions = Decision(True, 0), Decision(False, 0)

    def _linked(self) -> list[dict[int, int] | None]:
        """For each type the map from its objects to their parents; None for what is directly below the root."""
        slots, found = self.graph.slots, list[dict[int, int] | None]()
        for index, name in enumerate(slots.types):
            linked = self.policy.parents.get(name) not in {None, self.policy.root}
            slot = slots.by_type[index][self.policy.links[name]] if linked else -1
            found.append(self.graph.edges[slot].subjects if linked else None)  # type: ignore[arg-type] # one parent each
        return found

    def parent(self, resource: int) -> int | None:
        """What a resource inherits from; None for the root, and for a child whose parent nobody has told."""
        links = self._links[self.graph.names.types[resource]]
        if links is not None:
            return links.get(resource)
        return None if self.graph.slots.types[self.graph.names.types[resource]] == self.policy.root else self.root

    def chain(self, resource: int) -> list[int]:
        """The resource and all that it inherits from, nearest first."""
        found = [resource]
        while (above := self.parent(found[-1])) is not None:
            found.append(above)
        return found

    # -- changes

    def validate(self, change: ScopedChange, field: str = "change") -> None:
        """InvalidArgument on a part of `field` for what the model does not admit."""
        match change:
            case Change(relationship, removed):
                self._validate_relationship(relationship, field, removed=removed)
            case RoleChange(_, permissions):
                self.policy.mask(permissions or ())
            case BindingChange(binding):
                mark = len(self.graph.names)
                self.graph.names.object(binding.resource, f"{field}.resource")
                self.graph.names.subject(binding.subject, f"{field}.subject")
                self.graph.names.rollback(mark)
                if binding.term.condition and binding.term.condition not in self.policy.schema.conditions:
                    words = f"there is no condition {binding.term.condition!r}"
                    raise refused(f"{field}.condition", words, "UNKNOWN_CONDITION")
                self.conditions.validate(binding.term, f"{field}.condition")
            case ModeChange(resource):
                mark = len(self.graph.names)
                self.graph.names.object(resource, f"{field}.resource")
                self.graph.names.rollback(mark)

    def _validate_relationship(self, each: Relationship, field: str, *, removed: bool) -> None:
        self.graph.validate(each, field)
        self.conditions.validate(each.term, f"{field}.condition")
        name = each.object.partition(":")[0]
        is_link = each.relation == self.policy.links.get(name) and self.policy.parents[name] != self.policy.root
        if not is_link and each.relation != "member":
            words = f"{each.relation!r} of a {name} is given by roles, not by relationships"
            raise refused(f"{field}.relation", words, "UNKNOWN_RELATION")
        if is_link and each.term:
            raise refused(f"{field}.expire_time", "a link to a parent cannot expire or have a condition", "")
        handle = self.graph.names.handles.get(each.object)
        above = None if handle is None or not is_link else self.parent(handle)
        if not removed and above is not None and self.graph.names.texts[above] != each.subject:
            raise refused(f"{field}.subject", f"{each.object} has another parent", "RESOURCE_HAS_PARENT")

    def apply(self, revision: int, changes: Iterable[ScopedChange]) -> None:
        """Apply the validated changes of one revision, in their order: a move removes the old link first."""
        self._stale = set()
        for change in changes:
            match change:
                case Change(relationship, removed):
                    self._relate(relationship, removed=removed)
                case RoleChange(role, permissions):
                    self.roles[role] = self.policy.mask(permissions or ())
                    self._stale = None
                case BindingChange(binding, removed):
                    self._bind(binding, removed=removed)
                case ModeChange(resource, mode):
                    self._set_mode(self.graph.names.object(resource), mode)
        self.revision = revision
        self._decisions = Decision(True, revision), Decision(False, revision)
        if self._stale is None:
            self.forget()
        for subject in self._stale or ():
            self._kept.pop(subject, None)
            self._sure.pop(subject, None)
            self.identities.forget(subject)

    def restore(
        self,
        revision: int,
        roles: Mapping[str, frozenset[str]],
        modes: Mapping[str, ScopeMode],
        bindings: Iterable[Binding],
    ) -> None:
        """Take over roles, modes and bindings in bulk; relationships are in the graph already."""
        changes: list[ScopedChange] = [RoleChange(role, permissions) for role, permissions in roles.items()]
        changes += [ModeChange(resource, mode) for resource, mode in modes.items()]
        changes += map(BindingChange, bindings)
        self.apply(revision, changes)

    def forget(self) -> None:
        """Forget everything that was kept; what follows is computed anew."""
        self._kept.clear()
        self._sure.clear()
        self._asked.clear()
        self._count = 0
        self._begin, self._end = inf, -inf
        self.identities.forget()

    def _relate(self, each: Relationship, *, removed: bool) -> None:
        found = self.graph.find(each) if removed else self.graph.resolve(each)
        if found is None:
            return
        slot, target, subject = found
        old = self.graph.edges[slot].terms.get((target, subject))
        self._expire(old, None if removed else each.term)
        if removed:
            self.graph.remove(slot, target, subject)
        else:
            self.graph.put(slot, target, subject, each.term)
        if each.relation == MEMBER:
            # A group is asked for by its members' userset, whether or not anything is bound to it yet.
            if (target, slot) not in self.graph.names.userset_of:
                self.graph.names.subject(f"{each.object}#{MEMBER}")
            self._touch(subject)
        elif target in self._asked:
            self._stale = None

    def _touch(self, subject: int) -> None:
        """Count what a subject holds as changed; a userset or wildcard stands for many."""
        names = self.graph.names
        if subject in names.usersets or names.wildcards.get(names.types[subject]) == subject:
            self._stale = None
        elif self._stale is not None:
            self._stale.add(subject)

    def _expire(self, old: Term | None, new: Term | None) -> None:
        for term, count in ((old, self.expiries.remove), (new, self.expiries.add)):
            if term is not None and term.expires is not None:
                count(term)
                self._stale = None

    def _bind(self, binding: Binding, *, removed: bool) -> None:
        old = self.bindings.pop(binding.id, None)
        names = self.graph.names
        if old is not None:
            resource, subject = names.object(old.resource), names.subject(old.subject)
            left = [each for each in self.bound[resource] if each.id != old.id]
            self._replace(resource, left)
            if all(each.subject != subject for each in left):
                self.places[subject].discard(resource)
            self._expire(old.term, None)
            self._touch(subject)
        if removed:
            return
        self.bindings[binding.id] = binding
        resource, subject = names.object(binding.resource), names.subject(binding.subject)
        self._replace(resource, [*self.bound.get(resource, ()), Bound(subject, binding.role, binding.term, binding.id)])
        self.places.setdefault(subject, set()).add(resource)
        self._expire(None, binding.term)
        self._touch(subject)

    def _replace(self, resource: int, bound: list[Bound]) -> None:
        if bound:
            self.bound[resource] = bound
        else:
            self.bound.pop(resource, None)
        self._anchor(resource)

    def _set_mode(self, resource: int, mode: ScopeMode) -> None:
        if mode is ScopeMode.INHERIT:
            self.modes.pop(resource, None)
        else:
            self.modes[resource] = mode
        self._stale = None
        self._anchor(resource)

    def _anchor(self, resource: int) -> None:
        if resource in self.bound or resource in self.modes:
            self._own.add(resource)
        else:
            self._own.discard(resource)

    # -- answers

    def handle(self, reference: str) -> int:
        """The handle of a resource or subject, for `allowed`; it is interned for the life of the engine."""
        return self.graph.names.subject(reference)

    def permission(self, name: str) -> int:
        """The bit of ``type.verb``, for `allowed`."""
        return self.policy.mask([name])

    def allowed(self, subject: int, permission: int, resource: int, now: float) -> bool:
        """Whether the subject holds a permission at a resource whatever the context, by handles; the fast way."""
        if not self._begin <= now < self._end:
            self._turn(now)
        if resource not in self._own:
            links = self._links[self.graph.names.types[resource]]
            above = self.parent(resource) if links is None else links.get(resource)
            if above is None:
                return False
            resource = above
        try:
            return self._sure[subject][resource] & permission != 0
        except KeyError:
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

    def view(self, given: Circumstances) -> View:
        """The state with a request's circumstances on top, while it is entered."""
        return View(self.graph, given)

    def verdict(self, view: View, subject: int, resource: int, permission: int) -> Verdict:
        """Whether the subject holds a permission in a view, with the context that is missing for it."""
        held, missing = self.held_in(view, subject, resource)
        if held.sure & permission:
            return True
        return missing(permission) if held.possible & permission else False

    def effective(self, resource: str, subject: str, given: Circumstances) -> tuple[list[str], list[str]]:
        """Every permission that the subject holds at the resource or, where nothing else is said, below it: those
        held surely and those that missing context decides, as ``type.verb`` in byte order.
        """
        with self.view(given) as view:
            names = self.graph.names
            held, _ = self.held_in(view, names.subject(subject, "subject"), names.object(resource, "resource"))
        return self.policy.names(held.sure), self.policy.names(held.possible & ~held.sure)

    def held(self, subject: int, resource: int, now: float) -> Held:
        """What a subject holds at a resource by what is stored, without any context."""
        if not self._begin <= now < self._end:
            self._turn(now)
        kept = self._kept.setdefault(subject, {})
        found = kept.get(resource)
        if found is None:
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
        known = self.identities.within(view, subject)
        missing = Missing()
        held = NOTHING
        for each in reversed(self.chain_in(view, resource)):
            if each in self._own:
                held = self._combined(each, known, held, view.now, view.context, missing)
        return held, missing

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
        for each in self.bound.get(resource, ()):
            holds = known.get(each.subject, False)
            if holds is not False and each.term:
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
