"""Stored relationships: parent links and group memberships, written as one, read by filter."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.domain import (
    Changed,
    Filter,
    Operation,
    Precondition,
    Relationship,
    Resource,
    Subject,
    Update,
)
from pyairtable_mesh.permission.platform import require_context
from pyairtable_mesh.permission.store import RelationshipKey, View
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.authority import Authority, Need
from pyairtable_mesh.permission.usecases.changes import Act, Acts, M
from pyairtable_mesh.permission.usecases.consistency import Consistency, Tokens
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    PreconditionViolation,
    ResourceExhausted,
)

MOST_IN_ONE_WRITE = 10_000
"""How many relationships one write may change."""
_MOST_BINDINGS_OF_A_GROUP = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a write comes to, once it is known what is there: links and memberships to store and to remove."""

    puts: Sequence[Relationship]
    removals: Sequence[Relationship]
    parents: Mapping[str, Relationship]
    stored: Mapping[Relationship, Relationship]
    """What is at the keys of the write, expired or not, by its key."""

    @property
    def joined(self) -> set[str]:
        """The groups that get members."""
        return {str(each.resource) for each in self.puts if each.is_membership}

    @property
    def first_links(self) -> list[Relationship]:
        """Links of children that had no parent: a child may be attached to a parent that this very write attaches."""
        return [each for each in self.puts if not each.is_membership and str(each.resource) not in self.parents]

    def needs(self, tenant: Resource) -> list[Need]:
        """What the writer must be allowed, besides giving no more than it has."""
        found: dict[Need, None] = {}
        attached = {each.resource for each in self.puts if not each.is_membership}
        for each in (*self.puts, *self.removals):
            if each.is_membership:
                found[tenant, schema.MANAGE_GROUPS] = None
        for link in self.puts:
            if not link.is_membership:
                parent = Resource(link.subject.type, link.subject.id)
                found[parent, f"create_{link.resource.type}"] = None
                before = self.parents.get(str(link.resource))
                if before is not None and before.subject != link.subject:
                    found[link.resource, schema.MANAGE_ACCESS] = None
        for link in self.removals:
            if not link.is_membership and link.resource not in attached:
                found[link.resource, schema.DELETE] = None
        return list(found)


class Relationships:
    """Writes are atomic and decided in their own transaction; who may read is decided by the present."""

    def __init__(
        self,
        database: Database,
        acts: Acts,
        authority: Authority,
        tokens: Tokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._acts = acts
        self._authority = authority
        self._tokens = tokens
        self._clock = clock

    async def write(
        self,
        caller: RequestContext,
        updates: Sequence[Update],
        preconditions: Sequence[Precondition],
        answer: Callable[[str], M],
    ) -> M:
        """Apply all updates or none; `answer` gets the token of the new state."""
        refuse_repeated([each.relationship.key for each in updates])
        async with self._acts.begin(caller) as act:
            for index, each in enumerate(updates):
                expiring = each.operation is not Operation.DELETE
                field = f"updates[{index}].relationship"
                each.relationship.validate(field, act.data.now if expiring else None)
                require_context(each.relationship, f"{field}.condition")
            await self._apply(act, caller.user(), updates, preconditions, "relationships.written")
            return act.answer(answer(act.token))

    async def delete(
        self,
        caller: RequestContext,
        wanted: Filter,
        preconditions: Sequence[Precondition],
        answer: Callable[[int, str], M],
    ) -> M:
        """Delete what matches; `answer` gets how many there were and the token of the new state."""
        validate_filter(wanted, "filter")
        async with self._acts.begin(caller) as act:
            found = await act.data.relationships(wanted, MOST_IN_ONE_WRITE + 1)
            if len(found) > MOST_IN_ONE_WRITE:
                words = f"the filter matches more than {MOST_IN_ONE_WRITE} relationships: narrow it down"
                raise ResourceExhausted(words, reason="TOO_MANY_RELATIONSHIPS")
            updates = [Update(Operation.DELETE, each) for each in found]
            await self._apply(act, caller.user(), updates, preconditions, "relationships.deleted")
            return act.answer(answer(len(found), act.token))

    async def read(
        self,
        caller: RequestContext,
        wanted: Filter,
        consistency: Consistency,
        size: int,
        after: RelationshipKey | None,
    ) -> tuple[list[Relationship], str]:
        """Up to `size` relationships behind a key, in the order of their keys; and the token of the state."""
        validate_filter(wanted, "filter")
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, self._clock())
            revision = self._tokens.read_at(caller.tenant_id, consistency, await view.revision())
            with self._acts.reading(caller):
                await self._authority.require(view, caller.user(), _to_read(wanted, caller.user(), view))
            with self._tokens.kept(caller.tenant_id):
                found = await past.relationships(view, revision, wanted, size, after)
            return found, self._tokens.of(caller.tenant_id, revision)

    async def export(
        self, caller: RequestContext, consistency: Consistency, revision: int, after: RelationshipKey | None, size: int
    ) -> tuple[list[Relationship], int]:
        """Up to `size` of all relationships behind a key, as they were at a revision (0: the one that `consistency`
        asks for), and that revision; for those who manage access in the tenant.
        """
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, self._clock())
            tenant = Resource(schema.TENANT, caller.tenant_id)
            with self._acts.reading(caller):
                await self._authority.require(view, caller.user(), [(tenant, schema.MANAGE_ACCESS)])
            at = revision or self._tokens.read_at(caller.tenant_id, consistency, await view.revision())
            with self._tokens.kept(caller.tenant_id):
                return await past.relationships(view, at, Filter(), size, after), at

    async def add(self, caller: RequestContext, relationships: Sequence[Relationship]) -> tuple[int, str]:
        """Store those that are not there, all or none; how many these were, and the token of the state after it."""
        updates = [Update(Operation.TOUCH, each) for each in relationships]
        refuse_repeated([each.relationship.key for each in updates])
        async with self._acts.begin(caller) as act:
            tenant = Resource(schema.TENANT, caller.tenant_id)
            await self._authority.require(act.data, caller.user(), [(tenant, schema.MANAGE_ACCESS)])
            for index, each in enumerate(relationships):
                each.validate(f"relationships[{index}]", act.data.now)
                require_context(each, f"relationships[{index}].condition")
            there = await act.data.stored([each.key for each in relationships])
            new = [each for each in updates if each.relationship.key not in there]
            await self._apply(act, caller.user(), new, (), "relationships.written")
            return len(new), act.token

    async def _apply(
        self, act: Act, subject: str, updates: Sequence[Update], preconditions: Sequence[Precondition], event: str
    ) -> None:
        plan = await self._plan(act.data, updates)
        tenant = Resource(schema.TENANT, act.data.tenant_id)
        needs = plan.needs(tenant)
        for index, each in enumerate(preconditions):
            validate_filter(each.filter, f"preconditions[{index}].filter")
            needs += _to_read(each.filter, subject, act.data)
        await self._authority.require(act.data, subject, needs, pending=plan.first_links)
        if plan.joined and not await self._authority.is_tenant_owner(act.data, subject):
            await self._require_within_groups(act.data, subject, plan.joined)
        await require_preconditions(act.data, preconditions)
        _refuse_existing(plan, updates, act.data.now)
        _refuse_second_parents(plan)
        await act.data.delete_relationships(plan.removals, plan.stored)
        await act.data.put_relationships(plan.puts, plan.stored)
        if plan.puts or plan.removals:
            changed = [*(Changed(each) for each in plan.puts), *(Changed(each, kept=False) for each in plan.removals)]
            about = {each.what.resource for each in changed if isinstance(each.what, Relationship)}
            details = {"stored": str(len(plan.puts)), "removed": str(len(plan.removals)), "first": str(changed[0].what)}
            resource = about.pop() if len(about) == 1 else tenant
            act.announce(event, f"tenants/{tenant.id}", changed, resource, details)

    async def _plan(self, view: View, updates: Sequence[Update]) -> Plan:
        puts = [each.relationship for each in updates if each.operation is not Operation.DELETE]
        deleted = [each.relationship.key for each in updates if each.operation is Operation.DELETE]
        stored = await view.at_keys([each.relationship.key for each in updates])
        removals = [key for key in deleted if _is_alive(stored.get(key), view.now)]
        children = {str(each.resource) for each in (*puts, *deleted) if not each.is_membership}
        return Plan(puts, removals, await view.parents(children) if children else {}, stored)

    async def _require_within_groups(self, view: View, subject: str, groups: Collection[str]) -> None:
        """Who puts somebody into a group gives all that the group has been granted: a grant like any other."""
        members = [f"{group}#{schema.MEMBER}" for group in groups]
        answers = await self._authority.answers(view, [], members)
        reached = set[str]().union(*(answers.possible(each) for each in members))
        bindings = await view.bindings_of(reached, _MOST_BINDINGS_OF_A_GROUP + 1)
        if len(bindings) > _MOST_BINDINGS_OF_A_GROUP:
            words = f"only an owner may add members to a group with more than {_MOST_BINDINGS_OF_A_GROUP} role bindings"
            raise ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"path": " ".join(sorted(groups)[:10])})
        permissions = await view.roles_of({each.role for each in bindings})
        given: dict[Resource, frozenset[str]] = {}
        for each in bindings:
            given[each.resource] = given.get(each.resource, frozenset()) | permissions[each.role]
        await self._authority.require_within(view, subject, given)


def validate_filter(wanted: Filter, field: str) -> None:
    """`InvalidArgument` for types, relations and references that the schema does not have."""
    for kind, name in ((wanted.resource_type, "resource_type"), (wanted.subject_type, "subject_type")):
        if kind and kind not in schema.TYPES:
            raise InvalidArgument.of_field(f"{field}.{name}", f"there is no type {kind!r}", reason="UNKNOWN_TYPE")
    if wanted.resource:
        Resource.parse(wanted.resource, f"{field}.resource")
    if wanted.subject:
        Subject.parse(wanted.subject, f"{field}.subject")
    if wanted.relation and wanted.relation not in schema.LINKS | {schema.MEMBER}:
        words = f"there is no relation {wanted.relation!r}"
        raise InvalidArgument.of_field(f"{field}.relation", words, reason="UNKNOWN_RELATION")


def _to_read(wanted: Filter, subject: str, view: View) -> list[Need]:
    """What it takes to see what a filter selects."""
    if wanted.subject == subject:
        return []
    if wanted.resource:
        return [(Resource.parse(wanted.resource), schema.READ)]
    return [(Resource(schema.TENANT, view.tenant_id), schema.MANAGE_ACCESS)]


def refuse_repeated(keys: Sequence[Hashable]) -> None:
    """`InvalidArgument` where two updates of a write have the same key."""
    seen: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        first = seen.setdefault(key, index)
        if first != index:
            words = f"is the relationship of updates[{first}]; one write changes a relationship once"
            raise InvalidArgument.of_field(f"updates[{index}].relationship", words)


class _Reads(Protocol):
    async def relationships(self, wanted: Filter, limit: int) -> Sequence[object]: ...


async def require_preconditions(view: _Reads, preconditions: Sequence[Precondition]) -> None:
    """`FailedPrecondition` for the first that does not hold."""
    for index, each in enumerate(preconditions):
        if bool(await view.relationships(each.filter, 1)) != each.must_match:
            words = "nothing matches" if each.must_match else "something matches"
            violation = PreconditionViolation("PRECONDITION", f"preconditions[{index}]", words)
            sentence = f"preconditions[{index}] does not hold: {words}"
            raise FailedPrecondition(sentence, [violation], reason="PRECONDITION_FAILED")


def _is_alive(stored: Relationship | None, now: datetime) -> bool:
    return stored is not None and (stored.expire_time is None or stored.expire_time > now)


def _refuse_existing(plan: Plan, updates: Sequence[Update], now: datetime) -> None:
    created = [each.relationship.key for each in updates if each.operation is Operation.CREATE]
    if there := sorted(str(key) for key in created if _is_alive(plan.stored.get(key), now)):
        raise AlreadyExists("relationship", there[0], reason="RELATIONSHIP_EXISTS")


def _refuse_second_parents(plan: Plan) -> None:
    leaving = set(plan.removals)
    attached = dict[str, Relationship]()
    for link in plan.puts:
        if link.is_membership:
            continue
        child = str(link.resource)
        before = attached.setdefault(child, link)
        stored = plan.parents.get(child)
        if before is link and (stored is None or stored.subject == link.subject or stored.key in leaving):
            continue
        other = before if before is not link else stored or before
        violation = PreconditionViolation("RESOURCE_HAS_PARENT", child, f"{other.subject} is its parent")
        words = f"{child} has {other.subject} as its parent: delete that link in the same write"
        raise FailedPrecondition(words, [violation], reason="RESOURCE_HAS_PARENT", metadata={"resource": child})
