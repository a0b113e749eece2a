"""Why a subject holds a permission of the product, by the shortest way, or which grants are missing; in words too."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pyairtable_mesh.runtime.authorization.bindings import Bound
from pyairtable_mesh.runtime.authorization.explanation import FailedCondition
from pyairtable_mesh.runtime.authorization.facts import Circumstances, Decision, Term, Verdict
from pyairtable_mesh.runtime.authorization.identities import MEMBER, View
from pyairtable_mesh.runtime.authorization.roles import OWNER, ScopeMode
from pyairtable_mesh.runtime.authorization.scopes import Question, ScopedEngine


@dataclass(frozen=True, slots=True)
class Step:
    """`subject` stands in `relation` to `object`: a ``membership``, a ``role_binding`` (named by its id; the relation
    is the role) or an ``inheritance`` (the subject is the parent).
    """

    kind: str
    object: str
    relation: str
    subject: str
    binding: str = ""


@dataclass(frozen=True, slots=True)
class MissingGrant:
    """A role that would have to be bound at a resource for the sake of one permission; empty where none has it."""

    resource: str
    role: str
    permission: str


@dataclass(frozen=True, slots=True)
class ScopedExplanation:
    """A decision with its reasons; `path` leads from the subject to the resource, `missing` is nearest first."""

    decision: Decision
    sentence: str
    path: tuple[Step, ...] = ()
    missing: tuple[MissingGrant, ...] = ()
    failed: tuple[FailedCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """A binding, the usersets from the subject to its subject, and the resources from its own to the one asked about;
    under RESTRICT `above` is how the parent allows as well.
    """

    bound: Bound
    usersets: tuple[int, ...]
    resources: tuple[int, ...]
    above: "_Way | None" = None

    @property
    def steps(self) -> int:
        return len(self.usersets) + len(self.resources) + (self.above.steps if self.above else 0)

    def layers(self) -> "Iterator[_Way]":
        """This way and those above it that it needs."""
        yield self
        if self.above is not None:
            yield from self.above.layers()


def explain_scoped(
    engine: ScopedEngine, question: Question, given: Circumstances, *, surroundings: bool = True
) -> ScopedExplanation:
    """Why the answer to a question is what `check` says; errors as for a check. Without `surroundings` a denial tells
    nothing of what is above the resource, for callers who may not know of it.
    """
    with engine.view(given) as view:
        target, verb, subject = question
        resource = engine.graph.names.object(target, "resource")
        who = engine.graph.names.subject(subject, "subject")
        return _Reasons(engine, view, who, engine.verb(resource, verb)).of(resource, verb, surroundings=surroundings)


def granting(engine: ScopedEngine, question: Question, given: Circumstances) -> str:
    """The id of the binding that `explain_scoped` ends its path with; empty where the answer is not "allowed"."""
    with engine.view(given) as view:
        target, verb, subject = question
        resource = engine.graph.names.object(target, "resource")
        who = engine.graph.names.subject(subject, "subject")
        way = _Reasons(engine, view, who, engine.verb(resource, verb)).way(resource)
    return way.bound.id if way else ""


class _Reasons:
    def __init__(self, engine: ScopedEngine, view: View, subject: int, permission: int) -> None:
        self._engine = engine
        self._view = view
        self._subject = subject
        self._permission = permission
        self._known = engine.identities.within(view, subject)
        self._texts = engine.graph.names.texts
        self._bound: dict[int, list[Bound]] = {}
        self._allowed: dict[int, bool] = {}

    def of(self, resource: int, verb: str, *, surroundings: bool) -> ScopedExplanation:
        engine, subject, target = self._engine, self._texts[self._subject], self._texts[resource]
        verdict = engine.verdict(self._view, self._subject, resource, self._permission)
        decision = Decision.of(verdict, engine.revision)
        unsure = bool(decision.missing)
        failed = tuple(self._failed(resource, unsure=unsure)) if surroundings and not decision.allowed else ()
        if isinstance(verdict, frozenset):
            words = f"Whether {subject} may {verb} {target} depends on {', '.join(sorted(verdict))}."
            return ScopedExplanation(decision, words, failed=failed)
        if verdict:
            way = self.way(resource)
            because = "; ".join(self._because(each, verb) for each in way.layers()) if way else "by its roles"
            return ScopedExplanation(decision, f"{subject} may {verb} {target}: {because}.", self._path(way))
        missing = self._grants(resource) if surroundings else self._grants_at([resource], self._smallest_role())
        words = (
            self._denial(resource)
            if surroundings
            else f"no role with {self._name} that counts here is bound to {self._whom()}"
        )
        if failed:
            words += f"; the condition {failed[0].condition} of {failed[0].carrier} is not met"
        return ScopedExplanation(decision, f"{subject} may not {verb} {target}: {words}.", (), missing, failed)

    def _allows(self, resource: int) -> bool:
        if resource not in self._allowed:
            along = self._engine.held_along(self._view, self._subject, resource)
            self._allowed |= {each: held.sure & self._permission != 0 for each, held in along}
        return self._allowed[resource]

    @property
    def _name(self) -> str:
        return self._engine.policy.names(self._permission)[0]

    def _own(self, resource: int) -> list[Bound]:
        found = self._bound.get(resource)
        if found is None:
            own = self._engine.own(resource, self._known, self._view.now, self._view.context)
            found = self._bound[resource] = [bound for bound, holds in own if holds is True]
        return found

    def _parent(self, resource: int) -> int | None:
        return self._view.parents.get(resource, self._engine.parent(resource))

    def _mode(self, resource: int) -> ScopeMode:
        return self._engine.modes.get(resource, ScopeMode.INHERIT)

    def _gives(self, bound: Bound) -> bool:
        return self._engine.roles.get(bound.role, 0) & self._permission != 0

    def way(self, resource: int) -> _Way | None:
        """The shortest way to the permission at a resource; None where it is not held."""
        if not self._allows(resource):
            return None
        own = self._own(resource)
        parent = self._parent(resource)
        above = None if parent is None else self.way(parent)
        ways = list(self._owning(resource))
        nearest = min((self._by(each, [resource]) for each in own if self._gives(each)), key=_steps, default=None)
        mode = self._mode(resource)
        if nearest and mode is not ScopeMode.RESTRICT:
            ways.append(nearest)
        elif nearest and above:
            ways.append(_Way(nearest.bound, nearest.usersets, nearest.resources, above))
        if above and (mode is ScopeMode.INHERIT or (mode is ScopeMode.OVERRIDE and not own)):
            ways.append(_Way(above.bound, above.usersets, (*above.resources, resource), above.above))
        return min(ways, key=_steps, default=None)

    def _owning(self, resource: int) -> Iterator[_Way]:
        chain = self._engine.chain_in(self._view, resource)
        for place, each in enumerate(chain):
            for bound in self._own(each):
                if bound.role == OWNER and self._gives(bound):
                    yield self._by(bound, chain[: place + 1])

    def _by(self, bound: Bound, through: Sequence[int]) -> _Way:
        """The way of a binding through some resources, nearest first, the last of which has it."""
        return _Way(bound, self._usersets(bound.subject), tuple(reversed(through)))

    def _usersets(self, goal: int) -> tuple[int, ...]:
        """The shortest way from the subject through groups to what a binding names, without the subject."""
        path: list[int] = []
        while goal != self._subject and goal in self._came:
            path.append(goal)
            goal = self._came[goal]
        return tuple(reversed(path))

    @cached_property
    def _came(self) -> Mapping[int, int]:
        """The userset or subject before each userset on the shortest way to it from the subject."""
        came = dict[int, int]()
        for userset, member, *_ in self._memberships(lambda _, holds: holds is True):
            came.setdefault(userset, member)
        return came

    def _memberships(self, counts: Callable[[Term, Verdict], bool]) -> Iterator[tuple[int, int, Term, Verdict]]:
        """The memberships that lead on from the subject and count, the fewest steps first: each with the group as its
        members' userset, the member, the term and its verdict.
        """
        seen, queue = {self._subject}, deque([self._subject])
        while queue:
            member = queue.popleft()
            for userset, term in self._engine.identities.groups(member, self._view):
                holds = self._engine.identities.term(term, self._view.now, self._view.context)
                if not counts(term, holds):
                    continue
                yield userset, member, term, holds
                if userset not in seen:
                    seen.add(userset)
                    queue.append(userset)

    def _grants(self, resource: int) -> tuple[MissingGrant, ...]:
        places = self._missing(resource)
        last = places[-1]
        if self._parent(last) is None and self._mode(last) is ScopeMode.RESTRICT:
            # Restricted to what comes from nowhere: only an owner is not reduced.
            return self._grants_at([last], OWNER)
        role = self._smallest_role()
        return self._grants_at([resource] if role == OWNER else places, role)

    def _grants_at(self, places: Sequence[int], role: str) -> tuple[MissingGrant, ...]:
        return tuple(MissingGrant(self._texts[each], role, self._name) for each in places)

    def _missing(self, resource: int) -> list[int]:
        """The fewest resources, nearest first, at which a role with the permission would have to be bound."""
        if self._allows(resource):
            return []
        parent = self._parent(resource)
        if parent is None or self._mode(resource) is not ScopeMode.RESTRICT:
            return [resource]
        here = any(map(self._gives, self._own(resource)))
        return [*([] if here else [resource]), *self._missing(parent)]

    def _failed(self, resource: int, *, unsure: bool) -> Iterator[FailedCondition]:
        """The conditions that were not true of bindings that would give the permission, and of memberships on the ways
        to these; where the answer is `unsure`, also of bindings that may override what is held above.
        """
        engine, view = self._engine, self._view
        ways = dict[int, list[tuple[int, Term, Verdict]]]()
        for userset, member, term, verdict in self._memberships(lambda term, holds: holds is True or self._lives(term)):
            ways.setdefault(userset, []).append((member, term, verdict))
        shown = set[int]()
        for each in engine.chain_in(view, resource):
            overrides = unsure and self._mode(each) is ScopeMode.OVERRIDE
            for bound in engine.bindings.here(each):
                if bound.subject not in ways and bound.subject not in self._known:
                    continue
                holds = engine.identities.term(bound.term, view.now, view.context)
                if not self._gives(bound) and not (overrides and holds is not False):
                    continue
                if holds is not True and self._lives(bound.term):
                    yield _failed(bound.term, bound.id, holds)
                yield from self._failed_on(ways, bound.subject, shown)

    def _failed_on(
        self, ways: Mapping[int, Sequence[tuple[int, Term, Verdict]]], goal: int, shown: set[int]
    ) -> Iterator[FailedCondition]:
        """The conditions that were not true on all ways to a group, which are only shown once."""
        waiting = deque([goal])
        while waiting:
            here = waiting.popleft()
            if here in shown or self._known.get(here) is True:
                continue
            shown.add(here)
            for member, term, holds in ways.get(here, ()):
                if holds is not True:
                    yield _failed(term, f"{self._texts[here]}@{self._texts[member]}", holds)
                waiting.append(member)

    def _lives(self, term: Term) -> bool:
        """Whether a term is a condition that has not expired."""
        return bool(term.condition) and (term.expires is None or self._view.now < term.expires)

    def _smallest_role(self) -> str:
        holders = [(mask.bit_count(), name) for name, mask in self._engine.roles.items() if mask & self._permission]
        return min(holders, default=(0, ""))[1]

    def _because(self, way: _Way, verb: str) -> str:
        texts, place = self._texts, self._texts[way.resources[0]]
        clauses = [f"roles/{way.bound.role} is bound to {texts[way.bound.subject]} at {place}"]
        if way.usersets:
            groups = ", which is in ".join(texts[each].removesuffix(f"#{MEMBER}") for each in way.usersets)
            clauses.append(f"{texts[self._subject]} is in {groups}")
        if len(way.resources) > 1:
            clauses.append(f"{texts[way.resources[-1]]} inherits from {self._way_up(way.resources)}")
        if way.above is not None:
            clauses.append(f"{place} is restricted to those who may {verb} above it as well")
        return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])}, and {clauses[-1]}"

    def _way_up(self, resources: Sequence[int]) -> str:
        first, *between = [self._texts[each] for each in resources[:-1]]
        return f"{first} through {' and '.join(reversed(between))}" if between else first

    def _denial(self, resource: int) -> str:
        chain = self._engine.chain_in(self._view, resource)
        for each, parent in pairwise(chain):
            if not self._allows(each) and self._allows(parent):
                words = f"{self._texts[self._subject]} has {self._name} at {self._texts[parent]}, but"
                if self._mode(each) is ScopeMode.RESTRICT:
                    words += f" {self._texts[each]} is restricted to roles that are bound there"
                    return f"{words}, and none of these has it"
                return f"{words} the roles that are bound at {self._texts[each]} override that"
        everywhere = " or ".join(self._texts[each] for each in chain)
        return f"no role with {self._name} is bound to {self._whom()} at {everywhere}"

    def _whom(self) -> str:
        return f"{self._texts[self._subject]} or a group of it"

    def _path(self, way: _Way | None) -> tuple[Step, ...]:
        texts, steps = self._texts, list[Step]()
        for each in reversed(list(way.layers())) if way else ():
            members = [self._subject, *each.usersets]
            for member, userset in zip(members, each.usersets, strict=False):
                steps.append(Step("membership", texts[userset].removesuffix(f"#{MEMBER}"), MEMBER, texts[member]))
            place = texts[each.resources[0]]
            steps.append(Step("role_binding", place, each.bound.role, texts[each.bound.subject], each.bound.id))
            for parent, child in pairwise(each.resources):
                relation = self._engine.policy.links[texts[child].partition(":")[0]]
                steps.append(Step("inheritance", texts[child], relation, texts[parent]))
        return tuple(steps)


def _failed(term: Term, carrier: str, holds: Verdict) -> FailedCondition:
    return FailedCondition(term.condition, carrier, holds if isinstance(holds, frozenset) else frozenset())


def _steps(way: _Way) -> int:
    return way.steps
