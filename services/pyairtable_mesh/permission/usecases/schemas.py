"""Schemas as such: their versions, what differs between two, and what one would answer. Nothing here is stored."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime

from pyairtable_mesh.permission import schema, spaces
from pyairtable_mesh.permission.changelog import PLATFORM
from pyairtable_mesh.permission.domain import ModelSpace, Resource, SchemaVersion, SpaceRelationship
from pyairtable_mesh.permission.held import MOST_FACTS
from pyairtable_mesh.permission.spaces import SpaceState, SpaceView, as_relationship
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.usecases.authority import Authority, RefusalsRecorded
from pyairtable_mesh.permission.usecases.checks import Question
from pyairtable_mesh.permission.usecases.orphans import admits, orphaned
from pyairtable_mesh.permission.usecases.turns import Turn
from pyairtable_mesh.runtime.authorization import Change, Circumstances, Decision, RelationEngine, product
from pyairtable_mesh.runtime.authorization.language.difference import Difference, differences
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.decisions import DecisionLog, answer_of
from pyairtable_mesh.runtime.errors import MeshError, NotFound, ResourceExhausted

_APPLIED_AT_ONCE = 100
_SHARE = 10
"""A schema is tried with up to a tenth of the facts that engines hold: those of the trial come on top of them."""
PLATFORM_SCHEMA = SchemaVersion("platform-1", PLATFORM)
"""The product's schema; a release that changes it gives it another name."""
PLATFORM_SPACE = ModelSpace(PLATFORM, "Platform", PLATFORM_SCHEMA.id)
"""The product's space."""


@dataclass(frozen=True, slots=True)
class Source:
    """A schema by the id of a version, or as text."""

    id: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A question and the answer that is expected: ``allowed``, ``denied`` or ``conditional``."""

    question: Question
    expected: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an assertion gave."""

    actual: Decision | MeshError
    passed: bool


class Schemas:
    """Schemas of the caller's tenant, and the product's."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        clock: Callable[[], datetime],
        log: DecisionLog,
        most_facts: int = MOST_FACTS,
    ) -> None:
        self._database = database
        self._authority = authority
        self._clock = clock
        self._log = log
        self._most_tried = most_facts // _SHARE
        self._trying = asyncio.Lock()

    async def get(self, caller: RequestContext, schema_id: str, space: str) -> SchemaVersion:
        """A version, or (without an id) the current one of a space; NotFound where there is none."""
        if schema_id.startswith(PLATFORM) or not (schema_id or space):
            return _platform(schema_id)
        async with self._database.read(caller) as connection:
            owner = await spaces.space_of(connection, caller.tenant_id, schema_id) if schema_id else space
            view = SpaceView(connection, caller.tenant_id, owner, self._clock())
            stored = await view.space()
            version = await view.schema(schema_id or stored.schema) if stored else None
        if version is None or (space and version.space != space):
            raise NotFound("schema", f"schemas/{schema_id}" if schema_id else f"modelSpaces/{space}")
        return version

    async def space(self, caller: RequestContext, space: str) -> ModelSpace:
        """A space by its id (empty: the platform's); NotFound where the tenant has none."""
        if not space:
            return PLATFORM_SPACE
        async with self._database.read(caller) as connection:
            found = await SpaceView(connection, caller.tenant_id, space, self._clock()).space()
        if found is None:
            raise NotFound("model_space", f"modelSpaces/{space}")
        return found

    async def spaces(self, caller: RequestContext, size: int, after: str) -> list[ModelSpace]:
        """Up to `size` spaces behind an id: the platform's, then the tenant's own in the order of their ids."""
        first = [] if after else [PLATFORM_SPACE]
        async with self._database.read(caller) as connection:
            own = await spaces.listed(connection, caller.tenant_id, size, after if after != PLATFORM else "")
        return [*first, *own][:size]

    async def versions(self, caller: RequestContext, space: str, size: int, after: str) -> list[SchemaVersion]:
        """Up to `size` versions of a space behind an id, newest first."""
        if not space:
            return [] if after else [_platform("")]
        async with self._database.read(caller) as connection:
            view = SpaceView(connection, caller.tenant_id, space, self._clock())
            if await view.space() is None:
                raise NotFound("model_space", f"modelSpaces/{space}")
            return await view.schemas(size, after)

    async def diff(self, caller: RequestContext, before: Source, after: Source) -> list[tuple[Difference, int]]:
        """The differences, each with how many relationships that are stored under `before` it would orphan; 0 for who
        does not manage access.
        """
        old, new = await self._tree(caller, before), await self._tree(caller, after)
        orphans = await self._orphans(caller, before, new)
        return [(each, orphans[each.element]) for each in differences(old, new)]

    async def _orphans(self, caller: RequestContext, before: Source, new: Schema) -> Counter[str]:
        found = Counter[str]()
        if not before.id or before.id.startswith(PLATFORM):
            return found
        async with self._database.read(caller) as connection:
            platform = View(connection, caller.tenant_id, self._clock())
            tenant, user = Resource(schema.TENANT, caller.tenant_id), caller.user()
            answers = await self._authority.answers(platform, [tenant], [user])
            if not answers.allowed(user, str(tenant), tenant.permission(schema.MANAGE_ACCESS)):
                return found
            owner = await spaces.space_of(connection, caller.tenant_id, before.id)
            async for each in orphaned(SpaceView(connection, caller.tenant_id, owner, platform.now), new):
                kind = each.resource.partition(":")[0]
                found[f"{kind}#{each.relation}" if kind in new.types else kind] += 1
        return found

    async def test(
        self,
        caller: RequestContext,
        source: Source,
        relationships: Sequence[SpaceRelationship],
        assertions: Sequence[Assertion],
        space: str,
    ) -> list[Outcome]:
        """What the schema answers with these relationships and, for those who manage access, a space's stored ones;
        stored ones that it does not admit are left out. One space is tried at a time, for the memory that it takes.

        ResourceExhausted EVALUATION_LIMIT for a space that is too large, and where the answers take too long together.
        """
        tree = await self._tree(caller, source)
        async with self._trying if space else nullcontext():
            engine, turn = RelationEngine(tree), Turn()
            if space:
                await self._add_stored(caller, engine, space, turn)
            return await self._try(caller, engine, turn, relationships, assertions)

    async def _try(
        self,
        caller: RequestContext,
        engine: RelationEngine,
        turn: Turn,
        relationships: Sequence[SpaceRelationship],
        assertions: Sequence[Assertion],
    ) -> list[Outcome]:
        for first in range(0, len(relationships), _APPLIED_AT_ONCE):
            changes = [Change(as_relationship(each)) for each in relationships[first : first + _APPLIED_AT_ONCE]]
            engine.validate(changes, "relationships", first)
            engine.apply(engine.revision, changes)
            if turn.over:
                await turn.pass_on()
        given = Circumstances(self._clock().timestamp())
        found = list[Outcome]()
        for each in assertions:
            found.append(_outcome(engine, each, caller, given))
            if turn.over:
                await turn.pass_on()
        return found

    async def _add_stored(self, caller: RequestContext, engine: RelationEngine, space: str, turn: Turn) -> None:
        async with self._database.read(caller) as connection:
            tenant = Resource(schema.TENANT, caller.tenant_id)
            platform = View(connection, caller.tenant_id, self._clock())
            with RefusalsRecorded(self._log, caller):
                await self._authority.require(platform, caller.user(), [(tenant, schema.MANAGE_ACCESS)])
            view = SpaceView(connection, caller.tenant_id, space, platform.now)
            if await view.space() is None:
                raise spaces.unknown(space)
            state = SpaceState(engine)
            async for part in view.everything():
                engine.apply(0, [Change(each) for each in map(as_relationship, part) if admits(engine, each)])
                if state.weight > self._most_tried:
                    raise self._too_large(space)
                if turn.over:
                    await turn.pass_on()

    def _too_large(self, space: str) -> ResourceExhausted:
        words = (
            f"modelSpaces/{space} has more than the {self._most_tried} facts and names that a schema is tried with: "
            "leave the space out and name the relationships that matter, or raise PYAIRTABLE_ENGINE_FACTS"
        )
        return ResourceExhausted(words, reason="EVALUATION_LIMIT", metadata={"limit": str(self._most_tried)})

    async def _tree(self, caller: RequestContext, source: Source) -> Schema:
        if source.text:
            return await spaces.parsed(source.text)
        if source.id.startswith(PLATFORM):
            _platform(source.id)
            return product.schema()
        return await spaces.parsed((await self.get(caller, source.id, "")).source)


def _platform(schema_id: str) -> SchemaVersion:
    if schema_id not in {"", PLATFORM_SCHEMA.id}:
        raise NotFound("schema", f"schemas/{schema_id}")
    return SchemaVersion(PLATFORM_SCHEMA.id, PLATFORM, source=product.source())


def _outcome(engine: RelationEngine, asserted: Assertion, caller: RequestContext, given: Circumstances) -> Outcome:
    question = asserted.question
    asked = (question.resource, question.verb, question.subject or caller.user())
    (actual,) = engine.batch([asked], Circumstances(given.now, question.context))
    return Outcome(actual, isinstance(actual, Decision) and answer_of(actual) == asserted.expected)
