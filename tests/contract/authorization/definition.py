"""Roles and scope modes straight from their definition (scopes.py), in three-valued logic.

Nothing here is shared with the engine but the kinds of facts. It is slow, and meant to be read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from pyairtable_mesh.runtime.authorization.facts import Change, Relationship, Term, Verdict
from pyairtable_mesh.runtime.authorization.roles import (
    Binding,
    BindingChange,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopeMode,
)
from pyairtable_mesh.runtime.authorization.verdicts import both, either, negation


@dataclass
class Definition:
    """effective(s, r) by the letter: for each permission, whether it is held at a moment (seconds)."""

    tenant: str
    now: float
    context: Mapping[str, Any] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    members: dict[tuple[str, str], Term] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    modes: dict[str, ScopeMode] = field(default_factory=dict)
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    assumed: Sequence[Relationship] = ()
    """Memberships that count beside the stored ones, also beside one of the same group and member."""
    _identities: dict[str, dict[str, Verdict]] = field(default_factory=dict, init=False, repr=False)
    _bound: dict[tuple[str, str], list[tuple[Binding, Verdict]]] = field(default_factory=dict, init=False, repr=False)

    def at(self, now: float, context: Mapping[str, Any], contextual: Sequence[Relationship] = ()) -> "Definition":
        """The same facts and more, asked at another moment with other context."""
        joined = [each for each in contextual if each.relation == "member"]
        asked = replace(self, now=now, context=context, links=dict(self.links), assumed=joined)
        asked.links.update((each.object, each.subject) for each in contextual if each.relation != "member")
        return asked

    def copy(self) -> "Definition":
        """The same, whatever is applied to this one."""
        kept = {name: dict(getattr(self, name)) for name in ("links", "members", "bindings", "modes", "roles")}
        return replace(self, **kept)

    def apply(self, change: ScopedChange) -> None:
        self._identities.clear()
        self._bound.clear()
        match change:
            case Change(each, removed) if each.relation == "member":
                self.members.pop((each.object, each.subject), None)
                if not removed:
                    self.members[each.object, each.subject] = each.term
            case Change(each, True):
                if self.links.get(each.object) == each.subject:
                    del self.links[each.object]
            case Change(each):
                self.links[each.object] = each.subject
            case RoleChange(role, permissions):
                self.roles[role] = permissions or frozenset()
            case BindingChange(binding, removed):
                self.bindings.pop(binding.id, None)
                if not removed:
                    self.bindings[binding.id] = binding
            case ModeChange(resource, mode):
                self.modes[resource] = mode

    def term(self, term: Term) -> Verdict:
        if term.expires is not None and term.expires <= self.now:
            return False
        if not term.condition:
            return True
        values = {**self.context, **term.context}
        if missing := {"address", "network"} - values.keys():
            return frozenset(missing)
        try:
            return ip_address(values["address"]) in ip_network(values["network"])
        except ValueError:
            return False  # what cannot be answered grants nothing

    def memberships(self) -> Iterable[tuple[str, str, Term]]:
        """Groups, their members, and what each membership holds under."""
        yield from ((group, member, term) for (group, member), term in self.members.items())
        yield from ((each.object, each.subject, each.term) for each in self.assumed)

    def terms(self) -> list[Term]:
        """What memberships and bindings hold under."""
        return [*(each.term for each in self.bindings.values()), *(term for *_, term in self.memberships())]

    def counts_as(self, subject: str, other: str) -> Verdict:
        if subject not in self._identities:
            self._identities[subject] = self._followed(subject)
        return self._identities[subject].get(other, False)

    def _followed(self, subject: str) -> dict[str, Verdict]:
        found: dict[str, Verdict] = {subject: True, f"{subject.partition(':')[0]}:*": "#" not in subject}
        joined = [(group, member, self.term(term)) for group, member, term in self.memberships()]
        for _ in range(len(joined) + 1):
            for group, member, verdict in joined:
                holds = both(found.get(member, False) if member != "user:*" else False, verdict)
                found[f"{group}#member"] = either(found.get(f"{group}#member", False), holds)
        return found

    def bound(self, subject: str, resource: str) -> list[tuple[Binding, Verdict]]:
        if (subject, resource) not in self._bound:
            here = [each for each in self.bindings.values() if each.resource == resource]
            self._bound[subject, resource] = [
                (each, both(self.counts_as(subject, each.subject), self.term(each.term))) for each in here
            ]
        return self._bound[subject, resource]

    def parent(self, resource: str) -> str | None:
        kind = resource.partition(":")[0]
        return None if kind == "tenant" else self.tenant if kind == "workspace" else self.links.get(resource)

    def chain(self, resource: str) -> list[str]:
        """A resource and what is above it, nearest first."""
        parent = self.parent(resource)
        return [resource] if parent is None else [resource, *self.chain(parent)]

    def owns(self, subject: str, resource: str | None) -> Verdict:
        owner: Verdict = False
        while resource is not None:
            for each, holds in self.bound(subject, resource):
                if each.role == "owner":
                    owner = either(owner, holds)
            resource = self.parent(resource)
        return owner

    def holds(self, subject: str, resource: str, permission: str) -> Verdict:
        own: Verdict = False
        present: Verdict = False
        for each, holds in self.bound(subject, resource):
            present = either(present, holds)
            if permission in self.roles.get(each.role, frozenset()):
                own = either(own, holds)
        parent = self.parent(resource)
        above = False if parent is None else self.holds(subject, parent, permission)
        match self.modes.get(resource, ScopeMode.INHERIT):
            case ScopeMode.INHERIT:
                reduced = either(own, above)
            case ScopeMode.RESTRICT:
                reduced = both(own, above)
            case ScopeMode.OVERRIDE:
                reduced = either(both(present, own), both(negation(present), above))
        return either(reduced, self.owns(subject, resource) if permission in self.roles["owner"] else False)
