"""Models that tenants bring: their schemas and what is stored under them, for those who manage access in the tenant.

Nothing of a space counts in another, or for the product. Questions to them are in space_questions.py.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from pyairtable_mesh.permission import changelog, domain, schema, spaces
from pyairtable_mesh.permission.domain import (
    Filter,
    ModelSpace,
    Operation,
    Precondition,
    Resource,
    Revision,
    SchemaVersion,
    SpaceRelationship,
)
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.spaces import Key, SpaceChange, SpaceState, SpaceView, as_relationship, unknown
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.usecases import past
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.changes import Acts, M
from pyairtable_mesh.permission.usecases.consistency import Consistency, Tokens
from pyairtable_mesh.permission.usecases.orphans import refuse_orphans
from pyairtable_mesh.permission.usecases.relationships import (
    MOST_IN_ONE_WRITE,
    refuse_repeated,
    require_preconditions,
)
from pyairtable_mesh.runtime import auditing, ids
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, Transaction
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    InvalidArgument,
    MeshError,
    NotFound,
    ResourceExhausted,
)

MOST_SPACES = 100
"""How many model spaces a tenant may have."""


@dataclass(frozen=True, slots=True)
class SpaceUpdate:
    """One change of a write."""

    operation: Operation
    relationship: SpaceRelationship


@dataclass(frozen=True, slots=True)
class SpaceAct:
    """A change of a space in hand."""

    data: SpaceChange
    token: str
    transaction: Transaction
    decision: auditing.Decision | None

    def audit(self, details: Mapping[str, str]) -> None:
        """Write the act to the audit log."""
        details = {"space": f"modelSpaces/{self.data.space_id}", **details}
        self.transaction.audit(f"{schema.TENANT}:{self.data.tenant_id}", details=details, decision=self.decision)

    def answer(self, message: M, details: Mapping[str, str]) -> M:
        """Audit the act, and keep the answer for repetitions of this request."""
        self.audit(details)
        self.transaction.remember(message.SerializeToString())
        return message


class Spaces:
    """The model spaces of tenants."""

    def __init__(
        self,
        database: Database,
        engines: Engines[SpaceState],
        acts: Acts,
        authority: Authority,
        tokens: Tokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._engines = engines
        self._validators = spaces.Validators()
        self._acts = acts
        self._authority = authority
        self._tokens = tokens
        self._clock = clock

    async def create(self, caller: RequestContext, display_name: str, answer: Callable[[ModelSpace], M]) -> M:
        """Create a space, without a schema yet."""
        if not display_name.strip():
            raise InvalidArgument.of_field("model_space.display_name", "must not be blank")
        async with self._acts.refusals_audited(caller), self._database.transaction(caller) as transaction:
            connection, tenant_id = transaction.connection, caller.tenant_id
            view = View(connection, tenant_id, transaction.now)
            await self._require_manager_in(view, caller)
            if await spaces.count(connection, tenant_id) >= MOST_SPACES:
                words = f"a tenant has at most {MOST_SPACES} model spaces"
                raise ResourceExhausted(words, metadata={"limit": "model_spaces"})
            made = ModelSpace(ids.new_id("spc"), display_name, create_time=transaction.now, creator=caller.user())
            if taken := await spaces.create(connection, tenant_id, made):
                words = f"another model space is called {display_name!r}"
                raise AlreadyExists("model_space", f"modelSpaces/{taken}", words)
            tenant = f"{schema.TENANT}:{tenant_id}"
            transaction.audit(tenant, details={"space": made.name}, decision=next(iter(view.decisions), None))
            message = answer(made)
            transaction.remember(message.SerializeToString())
            return message

    async def write(
        self,
        caller: RequestContext,
        space: str,
        updates: Sequence[SpaceUpdate],
        preconditions: Sequence[Precondition],
        answer: Callable[[str], M],
    ) -> M:
        """Apply all updates or none; `answer` gets the token of the new state."""
        refuse_repeated([each.relationship.key for each in updates])
        async with self._begin(caller, space) as act:
            await self._validate(act.data, updates)
            await require_preconditions(act.data, preconditions)
            created = [each.relationship.key for each in updates if each.operation is Operation.CREATE]
            now = act.data.now
            for there in (await act.data.at_keys(created)).values():
                if there.expire_time is None or there.expire_time > now:
                    raise AlreadyExists("relationship", str(there), reason="RELATIONSHIP_EXISTS")
            removed = await act.data.remove([_key_of(each) for each in updates if each.operation is Operation.DELETE])
            puts = [each.relationship for each in updates if each.operation is not Operation.DELETE]
            await act.data.put(puts)
            return act.answer(answer(act.token), {"stored": str(len(puts)), "removed": str(removed)})

    async def delete(
        self,
        caller: RequestContext,
        space: str,
        wanted: Filter,
        preconditions: Sequence[Precondition],
        answer: Callable[[int, str], M],
    ) -> M:
        """Delete what matches; `answer` gets how many there were and the token of the new state."""
        async with self._begin(caller, space) as act:
            await require_preconditions(act.data, preconditions)
            found = await act.data.relationships(wanted, MOST_IN_ONE_WRITE + 1)
            if len(found) > MOST_IN_ONE_WRITE:
                words = f"the filter matches more than {MOST_IN_ONE_WRITE} relationships: narrow it down"
                raise ResourceExhausted(words, reason="TOO_MANY_RELATIONSHIPS")
            await act.data.remove([each.key for each in found])
            return act.answer(answer(len(found), act.token), {"removed": str(len(found))})

    async def read(
        self,
        caller: RequestContext,
        space: str,
        wanted: Filter,
        consistency: Consistency,
        size: int,
        after: Key | None,
        revision: int = 0,
    ) -> tuple[list[SpaceRelationship], int]:
        """Up to `size` relationships behind a key, as they were at a revision (0: the one that `consistency` asks for),
        and that revision; for those who manage access.
        """
        async with self._database.read(caller) as connection:
            with self._acts.reading(caller):
                await self._require_manager_in(View(connection, caller.tenant_id, self._clock()), caller)
            view = SpaceView(connection, caller.tenant_id, space, self._clock())
            stored = await view.space()
            if stored is None:
                raise unknown(space)
            at = revision or self._tokens.read_at(view.scope, consistency, stored.revision)
            with self._tokens.kept(view.scope):
                return await past.space_relationships(view, at, wanted, size, after), at

    async def add(
        self, caller: RequestContext, space: str, relationships: Sequence[SpaceRelationship]
    ) -> tuple[int, str]:
        """Store those that are not there, all or none; how many these were, and the token of the state after it."""
        updates = [SpaceUpdate(Operation.TOUCH, each) for each in relationships]
        refuse_repeated([each.relationship.key for each in updates])
        async with self._begin(caller, space) as act:
            await self._validate(act.data, updates)
            there = await act.data.at_keys([each.key for each in relationships])
            new = [each for each in relationships if each.key not in there]
            await act.data.put(new)
            act.audit({"stored": str(len(new))})
            return len(new), act.token

    async def write_schema(
        self,
        caller: RequestContext,
        space: str,
        source: str,
        expected: str,
        answer: Callable[[SchemaVersion, str], M],
    ) -> M:
        """Store a version, which becomes the current one; FailedPrecondition SCHEMA_ORPHANS_RELATIONSHIPS where stored
        relationships would lose their meaning by it.
        """
        tree = await spaces.parsed(source)
        async with self._begin(caller, space, missing=NotFound("model_space", f"modelSpaces/{space}")) as act:
            stored = await act.data.space()
            current = stored.schema if stored else ""
            domain.require_etag(expected.removeprefix("schemas/"), current, f"modelSpaces/{space}")
            await refuse_orphans(act.data, tree)
            version = SchemaVersion(ids.new_id("sch"), space, act.data.now, caller.user(), source)
            await act.data.put_schema(version)
            return act.answer(answer(version, act.token), {"schema": version.name})

    def token(self, caller: RequestContext, space: str, revision: int) -> str:
        """The token of a state."""
        return self._tokens.of(changelog.scope_of(caller.tenant_id, space), revision)

    @asynccontextmanager
    async def _begin(
        self, caller: RequestContext, space: str, missing: MeshError | None = None
    ) -> AsyncIterator[SpaceAct]:
        async with self._acts.refusals_audited(caller):
            async with self._database.transaction(caller) as transaction:
                view = View(transaction.connection, caller.tenant_id, transaction.now)
                await self._require_manager_in(view, caller)
                change = await SpaceChange.begin(view.connection, caller.tenant_id, space, view.now)
                if change is None:
                    raise missing or unknown(space)
                decision = next(iter(view.decisions), None)
                yield SpaceAct(change, self._tokens.of(change.scope, change.at), transaction, decision)
            self._engines.committed(change.scope, Revision(change.at, change.now, change.changes))

    async def _validate(self, change: SpaceChange, updates: Sequence[SpaceUpdate]) -> None:
        engine = await self._validators.of(change)
        for index, each in enumerate(updates):
            field = f"updates[{index}].relationship"
            stored = as_relationship(each.relationship)
            engine.graph.validate(stored, field)
            engine.conditions.validate(stored.term, f"{field}.condition")
            if each.operation is not Operation.DELETE:
                domain.require_future(each.relationship.expire_time, change.now, f"{field}.expire_time")

    async def _require_manager_in(self, view: View, caller: RequestContext) -> None:
        tenant = Resource(schema.TENANT, caller.tenant_id)
        await self._authority.require(view, caller.user(), [(tenant, schema.MANAGE_ACCESS)])


def _key_of(update: SpaceUpdate) -> Key:
    return update.relationship.key
