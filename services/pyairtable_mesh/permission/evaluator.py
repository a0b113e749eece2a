"""Answers straight from the definitions of permission.md, over facts that are read for each request.

It decides a change where no engine is at the state that the change begins from (`usecases/authority.py`), and is an
oracle of the tests. It keeps nothing between requests, so that replicas cannot differ and no answer is stale.
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pyairtable_mesh.permission import domain, schema
from pyairtable_mesh.permission.domain import Relationship, ScopeMode
from pyairtable_mesh.runtime.errors import ResourceExhausted

MAX_MEMBERSHIPS = 100_000
"""How many memberships one request may follow."""
MAX_NESTING = 50
"""How deep groups may be nested."""
_SHOWN_OF_PATH = 10
_EVERY_USER = f"user:{schema.WILDCARD}"
_OWNER_PERMISSIONS = schema.SYSTEM_ROLES[schema.OWNER]


@dataclass(frozen=True, slots=True)
class Grant:
    """A role binding with what it permits; resource and subject in their text form, `role` by its id. A `conditional`
    one gives nothing, for nobody knows here whether it holds; but it may reduce.
    """

    binding: str
    role: str
    resource: str
    subject: str
    permissions: frozenset[str]
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class Closure:
    """Everything above some resources (child to parent) and around some subjects ((member, group) pairs), also what
    holds only under a condition.
    """

    parents: Mapping[str, str]
    memberships: Sequence[tuple[str, str]]
    conditional: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """Grants, scope modes that are not INHERIT, and the revision that all of it was read at."""

    grants: Sequence[Grant]
    modes: Mapping[str, ScopeMode]
    revision: int


class Reads(Protocol):
    """What the evaluator reads: one tenant's facts at one revision, without what has expired."""

    async def closure(self, resources: Collection[str], subjects: Collection[str], limit: int) -> Closure:
        """Follow parent links and memberships upwards from the given ones, through at most `limit` memberships."""
        ...

    async def held(self, resources: Collection[str], subjects: Collection[str]) -> Held:
        """The grants of these subjects at these resources, and the scope modes of the latter."""
        ...


@dataclass(frozen=True, slots=True)
class Why:
    """How a permission reaches a resource: a grant, the memberships that lead to its subject (nearest to the asking
    subject first) and the resources that it inherits through, from the grant's own to the one asked about. In RESTRICT
    the parent must allow as well: `parent` says how.
    """

    grant: Grant
    memberships: tuple[tuple[str, str], ...]
    resources: tuple[str, ...]
    parent: "Why | None" = None

    @property
    def steps(self) -> int:
        """The length of the path."""
        return len(self.memberships) + len(self.resources) + (self.parent.steps if self.parent else 0)


@dataclass(slots=True)
class Answers:
    """Answers about the resources and subjects that the facts were read for, and no others. Only what is sure counts as
    allowed: whatever hangs on a condition is not.
    """

    tenant: str
    parents: Mapping[str, str]
    memberships: Mapping[str, Sequence[str]]
    conditional: Mapping[str, Sequence[str]]
    """Groups by members that are in them under a condition."""
    grants: Mapping[str, Sequence[Grant]]
    modes: Mapping[str, ScopeMode]
    revision: int
    _identities: dict[tuple[str, bool], dict[str, tuple[str, str] | None]] = field(default_factory=dict)
    _effective: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def allowed(self, subject: str, resource: str, permission: str) -> bool:
        """Whether the subject holds ``type.verb`` at the resource."""
        return permission in self.effective(subject, resource)

    def effective(self, subject: str, resource: str) -> frozenset[str]:
        """Every permission that the subject holds at the resource or, where nothing else is said, below it."""
        key = (subject, resource)
        if (known := self._effective.get(key)) is not None:
            return known
        own = self.own(subject, resource)
        held = frozenset[str]().union(*(grant.permissions for grant in own))
        parent = self.parent(resource)
        above = self.effective(subject, parent) if parent is not None else frozenset[str]()
        match self.mode(resource):
            case ScopeMode.INHERIT:
                held |= above
            case ScopeMode.RESTRICT:
                held &= above
            case ScopeMode.OVERRIDE:
                held = held if own or self._reduced(subject, resource) else above
        if self.owner_grant(subject, resource) is not None:
            held |= _OWNER_PERMISSIONS
        self._effective[key] = held
        return held

    def own(self, subject: str, resource: str) -> list[Grant]:
        """The grants at the resource itself to the subject or to any group of it."""
        here = self.grants.get(resource)
        if not here:
            return []
        identities = self.identities(subject)
        return [grant for grant in here if grant.subject in identities and not grant.conditional]

    def _reduced(self, subject: str, resource: str) -> bool:
        """Whether a grant at the resource may count, under a condition: enough to override what is above."""
        here = self.grants.get(resource)
        return bool(here) and not self.possible(subject).keys().isdisjoint(grant.subject for grant in here or ())

    def owner_grant(self, subject: str, resource: str) -> Grant | None:
        """The nearest grant, here or above, that makes the subject an owner: owners are never reduced."""
        for each in self.chain(resource):
            for grant in self.own(subject, each):
                if grant.role == schema.OWNER:
                    return grant
        return None

    def mode(self, resource: str) -> ScopeMode:
        """The scope mode of a resource."""
        return self.modes.get(resource, ScopeMode.INHERIT)

    def parent(self, resource: str) -> str | None:
        """What the resource inherits from; None for a tenant, and for a child whose parent nobody has told."""
        described = schema.TYPES[resource.partition(":")[0]]
        if described.linked:
            return self.parents.get(resource)
        return self.tenant if described.parent else None

    def chain(self, resource: str) -> list[str]:
        """The resource and all that it inherits from, nearest first."""
        found: list[str] = []
        here: str | None = resource
        while here is not None:
            found.append(here)
            here = self.parent(here)
        return found

    def identities(self, subject: str) -> Mapping[str, tuple[str, str] | None]:
        """All that the subject counts as, by the shortest way: each with the membership that leads to it."""
        return self._known(subject, sure=True)

    def possible(self, subject: str) -> Mapping[str, tuple[str, str] | None]:
        """The same with what the subject counts as under conditions."""
        return self._known(subject, sure=not self.conditional)

    def _known(self, subject: str, *, sure: bool) -> Mapping[str, tuple[str, str] | None]:
        known = self._identities.get((subject, sure))
        if known is None:
            known = self._identities[subject, sure] = self._follow(subject, sure=sure)
        return known

    def _follow(self, subject: str, *, sure: bool) -> dict[str, tuple[str, str] | None]:
        reached: dict[str, tuple[str, str] | None] = {subject: None}
        if subject.startswith("user:"):
            reached[_EVERY_USER] = None
        queue = deque([(subject, 0)])
        while queue:
            member, depth = queue.popleft()
            for group in (*self.memberships.get(member, ()), *(() if sure else self.conditional.get(member, ()))):
                members = f"{group}#{schema.MEMBER}"
                if members in reached:
                    continue
                reached[members] = (member, group)
                if depth == MAX_NESTING:
                    raise _too_much(f"groups are nested deeper than {MAX_NESTING}", _way(reached, members))
                queue.append((members, depth + 1))
        return reached

    def why(self, subject: str, resource: str, permission: str) -> Why | None:
        """The shortest way by which the permission is held; None where it is not."""
        if not self.allowed(subject, resource, permission):
            return None
        owner = self.owner_grant(subject, resource)
        ways = [self._by(owner, subject, resource)] if owner else []
        own = [grant for grant in self.own(subject, resource) if permission in grant.permissions]
        parent = self.parent(resource)
        above = self.why(subject, parent, permission) if parent else None
        nearest = min((self._by(grant, subject, resource) for grant in own), key=_steps, default=None)
        mode = self.mode(resource)
        if nearest and mode is ScopeMode.RESTRICT:
            ways += [Why(nearest.grant, nearest.memberships, nearest.resources, above)] if above else []
        elif nearest:
            ways.append(nearest)
        through = not (self.own(subject, resource) or self._reduced(subject, resource))
        if above and (mode is ScopeMode.INHERIT or (mode is ScopeMode.OVERRIDE and through)):
            ways.append(Why(above.grant, above.memberships, (*above.resources, resource), above.parent))
        return min(ways, key=_steps)

    def grant_of(self, subject: str, resource: str, permission: str) -> str:
        """The name of the binding that `why` begins with; empty where the permission is not held."""
        why = self.why(subject, resource, permission)
        return domain.binding_name(why.grant.binding) if why else ""

    def missing(self, subject: str, resource: str, permission: str) -> list[str]:
        """The fewest resources, nearest first, at which a role with the permission would have to be bound."""
        if self.allowed(subject, resource, permission):
            return []
        parent = self.parent(resource)
        if parent is None or self.mode(resource) is not ScopeMode.RESTRICT:
            return [resource]
        here = any(permission in grant.permissions for grant in self.own(subject, resource))
        return [*([] if here else [resource]), *self.missing(subject, parent, permission)]

    def reducer(self, subject: str, resource: str, permission: str) -> str | None:
        """The nearest resource whose scope mode takes the permission away from what comes from above."""
        for each in self.chain(resource):
            parent = self.parent(each)
            if parent and not self.allowed(subject, each, permission) and self.allowed(subject, parent, permission):
                return each
        return None

    def _by(self, grant: Grant, subject: str, resource: str) -> Why:
        chain = self.chain(resource)
        through = chain[: chain.index(grant.resource) + 1]
        return Why(grant, _way(self.identities(subject), grant.subject), tuple(reversed(through)))


class NaiveEvaluator:
    """Reads what a request is about in two rounds, then answers from memory."""

    async def answers(
        self,
        reads: Reads,
        tenant_id: str,
        resources: Collection[str],
        subjects: Collection[str],
        contextual: Sequence[Relationship] = (),
    ) -> Answers:
        """Answers about each of `subjects` at each of `resources` and all above them.

        `contextual` count as stored; a parent named there takes the place of the stored one. ResourceExhausted with
        reason EVALUATION_LIMIT when groups are nested too deep or are too many.
        """
        parents: dict[str, str] = {}
        memberships: set[tuple[str, str]] = set()
        conditional: set[tuple[str, str]] = set()
        moved = {str(each.resource): str(each.subject) for each in contextual if not each.is_membership}
        joined = [(str(each.subject), str(each.resource)) for each in contextual if each.is_membership]
        known_resources, known_subjects = set[str](), set[str]()
        new_resources, new_subjects = set(resources), set(subjects)
        while new_resources or new_subjects:
            closure = await reads.closure(new_resources, new_subjects, MAX_MEMBERSHIPS + 1)
            parents.update(closure.parents)
            memberships.update(closure.memberships)
            conditional.update(closure.conditional)
            if len(memberships) + len(conditional) > MAX_MEMBERSHIPS:
                raise _too_much(f"there are more than {MAX_MEMBERSHIPS} memberships to follow", sorted(new_subjects))
            known_resources |= new_resources | closure.parents.keys() | set(closure.parents.values())
            known_subjects |= new_subjects | {f"{group}#{schema.MEMBER}" for _, group in memberships | conditional}
            memberships.update(pair for pair in joined if pair[0] in known_subjects)
            new_resources = {parent for child, parent in moved.items() if child in known_resources} - known_resources
            new_subjects = {f"{group}#{schema.MEMBER}" for _, group in memberships} - known_subjects
        tenant = f"{schema.TENANT}:{tenant_id}"
        held = await reads.held(known_resources | {tenant}, known_subjects | {_EVERY_USER})
        grants = _by_resource(held.grants)
        groups = _grouped(memberships), _grouped(conditional)
        return Answers(tenant, parents | moved, *groups, grants, held.modes, held.revision)


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for member, group in sorted(pairs):
        grouped[member].append(group)
    return dict(grouped)


def _by_resource(grants: Iterable[Grant]) -> dict[str, list[Grant]]:
    grouped: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        grouped[grant.resource].append(grant)
    return dict(grouped)


def _steps(why: Why) -> int:
    return why.steps


def _way(reached: Mapping[str, tuple[str, str] | None], subject: str) -> tuple[tuple[str, str], ...]:
    steps: list[tuple[str, str]] = []
    while (step := reached[subject]) is not None:
        steps.append(step)
        subject = step[0]
    return tuple(reversed(steps))


def _too_much(words: str, path: Sequence[object]) -> ResourceExhausted:
    shown = " ".join(str(step[-1] if isinstance(step, tuple) else step) for step in path[:_SHOWN_OF_PATH])
    return ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": shown})
