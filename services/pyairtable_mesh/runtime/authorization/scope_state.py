"""What the product's engine knows, and how changes reach it: hierarchy, groups, roles, bindings, scope modes.

Also which of the kept answers a change makes stale. Most changes touch one subject, or a resource that nobody has
asked about yet; a mode, a role, a binding to many or anything that expires touches everything.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

from pyairtable_mesh.runtime.authorization.bindings import Bindings, Bound
from pyairtable_mesh.runtime.authorization.conditions import Conditions
from pyairtable_mesh.runtime.authorization.facts import Change, Decision, Limits, Relationship, Term, refused
from pyairtable_mesh.runtime.authorization.graph import Graph
from pyairtable_mesh.runtime.authorization.identities import MEMBER, Identities
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
from pyairtable_mesh.runtime.authorization.scope_rules import Held


class ScopedState:
    """The facts of one tenant at one revision; `root` is the tenant."""

    def __init__(self, policy: Policy, root: str, limits: Limits = Limits()) -> None:  # noqa: B008 # immutable
        self.policy = policy
        self.limits = limits
        self.revision = 0
        self.graph = Graph(Slots(policy.schema))
        self.conditions = Conditions(policy.schema)
        self.root = self.graph.names.object(root)
        self.roles: dict[str, int] = {}
        self.bindings = Bindings(self.graph.names)
        self.modes: dict[int, ScopeMode] = {}
        self.expiries = Expiries()
        self.identities = Identities(self.graph, self.conditions.evaluate, limits)
        self._verbs = policy.verb_bits(self.graph.slots)
        self._links = self._linked()
        self._own: set[int] = set()
        """Resources with bindings or a mode: all others have the permissions of their parents."""
        self._anchors: list[int] = []
        """For each handle of a linked resource whose permissions it has: its own, or its parent; -1 for what is not
        known, also where the list ends.
        """
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

    def validate(self, changes: Sequence[ScopedChange], field: str = "changes") -> None:
        """InvalidArgument on a part of ``field[index]`` for what the model does not admit: call it for the changes of
        one revision together, as a move removes the link that it replaces.
        """
        removed = {each.relationship.key for each in changes if isinstance(each, Change) and each.removed}
        for index, change in enumerate(changes):
            self._validate(change, f"{field}[{index}]", removed)

    def _validate(self, change: ScopedChange, field: str, removed: Collection[tuple[str, str, str]]) -> None:
        match change:
            case Change(relationship, is_removed):
                self._validate_relationship(relationship, field, None if is_removed else removed)
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

    def _validate_relationship(
        self, each: Relationship, field: str, removed: Collection[tuple[str, str, str]] | None
    ) -> None:
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
        parent = each.subject if above is None else self.graph.names.texts[above]
        if removed is not None and parent != each.subject and (each.object, each.relation, parent) not in removed:
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
        self, revision: int, roles: Mapping[str, frozenset[str]], modes: Mapping[int, ScopeMode], bound: Iterable[Bound]
    ) -> None:
        """Take over the state of a snapshot in bulk; its relationships are in the graph of this new engine already."""
        self.roles.update((role, self.policy.mask(permissions)) for role, permissions in roles.items())
        self.modes.update(modes)
        for each in bound:
            self.bindings.put(each)
        for terms in (
            (each.term for each in self.bindings.stored()),
            *(edges.terms.values() for edges in self.graph.edges),
        ):
            held = [each for each in terms if each]
            self.expiries.extend(held)
            self.conditions.compile(held)
        self._anchors = [-1] * len(self.graph.names)
        for links in self._links:
            for resource, above in (links or {}).items():
                self._anchors[resource] = above
        for resource in (*self.bindings.at, *self.modes):
            self._anchor(resource)
        self.apply(revision, ())
        self.forget()

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
            if each.term.condition:
                self.conditions.compile((each.term,))
            self.graph.put(slot, target, subject, each.term)
        if each.relation == MEMBER:
            # A group is asked for by its members' userset, whether or not anything is bound to it yet.
            if (target, slot) not in self.graph.names.userset_of:
                self.graph.names.subject(f"{each.object}#{MEMBER}")
            self._touch(subject)
        else:
            self._anchor(target)
            if target in self._asked:
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
        old = self.bindings.pop(binding.id)
        if old is not None:
            self._anchor(old.resource)
            self._expire(old.term, None)
            self._touch(old.subject)
        if removed:
            return
        if binding.term.condition:
            self.conditions.compile((binding.term,))
        names = self.graph.names
        resource, subject = names.object(binding.resource), names.subject(binding.subject)
        self.bindings.put(Bound(subject, binding.role, binding.term, binding.id, resource))
        self._anchor(resource)
        self._expire(None, binding.term)
        self._touch(subject)

    def _set_mode(self, resource: int, mode: ScopeMode) -> None:
        if mode is ScopeMode.INHERIT:
            self.modes.pop(resource, None)
        else:
            self.modes[resource] = mode
        self._stale = None
        self._anchor(resource)

    def _anchor(self, resource: int) -> None:
        """Note whose permissions a resource has, after a change of what is bound there, of its mode or its parent."""
        links, anchors = self._links[self.graph.names.types[resource]], self._anchors
        anchors.extend([-1] * (resource + 1 - len(anchors)))
        if resource in self.bindings.at or resource in self.modes:
            self._own.add(resource)
            anchors[resource] = resource
        else:
            self._own.discard(resource)
            anchors[resource] = -1 if links is None else links.get(resource, -1)
