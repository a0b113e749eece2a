"""Models that tenants bring, in SQL and in memory: spaces, versions of their schemas, their relationships.

As store.py for the product's space: a `SpaceView` is bound to a connection, a space and a moment, a `SpaceChange` is
one that writes, and what it writes is in the changelog of the space.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Changed, Filter, ModelSpace, SchemaVersion, SpaceRelationship
from pyairtable_mesh.permission.held import MOST_FACTS, require_room
from pyairtable_mesh.permission.tables import MODEL_SCHEMA, MODEL_SPACE, SPACE_RELATIONSHIP
from pyairtable_mesh.runtime.authorization import Change, RelationEngine, Relationship, Term
from pyairtable_mesh.runtime.authorization.language.syntax import Schema
from pyairtable_mesh.runtime.columns import insert_missing
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.moments import utc_now

Key = tuple[str, str, str]
"""Resource, relation and subject: the order that relationships are listed in."""
_KEYS_IN_ONE_STATEMENT = 500
_ROWS_OF_A_PART = 500
_MOST_VALIDATORS = 100
_KEY = (SPACE_RELATIONSHIP.c.resource, SPACE_RELATIONSHIP.c.relation, SPACE_RELATIONSHIP.c.subject)


@dataclass(frozen=True, slots=True)
class SpaceView:
    """What a space's data say at a moment."""

    connection: AsyncConnection
    tenant_id: str
    space_id: str
    now: datetime

    @property
    def scope(self) -> str:
        """What its revisions count for."""
        return changelog.scope_of(self.tenant_id, self.space_id)

    async def space(self) -> ModelSpace | None:
        """The space itself."""
        columns = MODEL_SPACE.c
        mine = select(MODEL_SPACE).where(columns.tenant_id == self.tenant_id, columns.space_id == self.space_id)
        row = (await self.connection.execute(mine)).one_or_none()
        return _space(row) if row is not None else None

    async def schema(self, schema_id: str) -> SchemaVersion | None:
        """A version of its schema."""
        columns = MODEL_SCHEMA.c
        named = select(MODEL_SCHEMA).where(
            columns.tenant_id == self.tenant_id, columns.space_id == self.space_id, columns.schema_id == schema_id
        )
        row = (await self.connection.execute(named)).one_or_none()
        return _schema(row) if row is not None else None

    async def schemas(self, limit: int, after: str) -> list[SchemaVersion]:
        """Versions behind an id, newest first."""
        columns = MODEL_SCHEMA.c
        page = select(MODEL_SCHEMA).where(columns.tenant_id == self.tenant_id, columns.space_id == self.space_id)
        if after:
            page = page.where(columns.schema_id < after)
        rows = await self.connection.execute(page.order_by(columns.schema_id.desc()).limit(limit))
        return [_schema(row) for row in rows]

    async def relationships(self, wanted: Filter, limit: int, after: Key | None = None) -> list[SpaceRelationship]:
        """Relationships that match and have not expired, behind a key, in the order of their keys."""
        columns = SPACE_RELATIONSHIP.c
        exact = {columns.resource: wanted.resource, columns.relation: wanted.relation, columns.subject: wanted.subject}
        types = {columns.resource: wanted.resource_type, columns.subject: wanted.subject_type}
        page = select(SPACE_RELATIONSHIP).where(
            *self._mine(),
            *(each == value for each, value in exact.items() if value),
            *(each.between(f"{value}:", f"{value};") for each, value in types.items() if value),
            or_(columns.expire_time.is_(None), columns.expire_time > self.now),
        )
        if after is not None:
            page = page.where(tuple_(*_KEY) > tuple_(*after))
        return [_relationship(row) for row in await self.connection.execute(page.order_by(*_KEY).limit(limit))]

    async def at_keys(self, keys: Sequence[Key]) -> dict[Key, SpaceRelationship]:
        """The relationships that are stored at these keys, expired or not."""
        found: dict[Key, SpaceRelationship] = {}
        for part in _parts(keys):
            rows = select(SPACE_RELATIONSHIP).where(*self._mine(), tuple_(*_KEY).in_(part))
            for row in await self.connection.execute(rows):
                each = _relationship(row)
                found[each.key] = each
        return found

    async def everything(self) -> AsyncIterator[Sequence[SpaceRelationship]]:
        """All relationships, expired or not, in parts of some thousand."""
        rows = await self.connection.stream(select(SPACE_RELATIONSHIP).where(*self._mine()))
        async for part in rows.partitions(_ROWS_OF_A_PART):
            yield [_relationship(row) for row in part]

    def _mine(self) -> tuple[Any, Any]:
        columns = SPACE_RELATIONSHIP.c
        return columns.tenant_id == self.tenant_id, columns.space_id == self.space_id


@dataclass(frozen=True, slots=True)
class SpaceChange(SpaceView):
    """A view inside of a transaction that writes; what it writes carries `at`."""

    at: int
    changes: list[Changed] = field(default_factory=list)

    @classmethod
    async def begin(
        cls, connection: AsyncConnection, tenant_id: str, space_id: str, now: datetime
    ) -> "SpaceChange | None":
        """Take the space's next revision; None where there is no such space."""
        columns = MODEL_SPACE.c
        mine = update(MODEL_SPACE).where(columns.tenant_id == tenant_id, columns.space_id == space_id)
        raised = mine.values(revision=columns.revision + 1).returning(columns.revision)
        revision = (await connection.execute(raised)).scalar_one_or_none()
        return None if revision is None else cls(connection, tenant_id, space_id, now, revision)

    async def put_schema(self, version: SchemaVersion) -> None:
        """Store a new version, which becomes the current one."""
        values = {
            "tenant_id": self.tenant_id,
            "schema_id": version.id,
            "space_id": self.space_id,
            "source": version.source,
            "create_time": version.create_time,
            "creator": version.creator,
        }
        await self.connection.execute(insert(MODEL_SCHEMA), values)
        columns = MODEL_SPACE.c
        mine = update(MODEL_SPACE).where(columns.tenant_id == self.tenant_id, columns.space_id == self.space_id)
        await self.connection.execute(mine.values(schema_id=version.id))
        await self._record([Changed(SchemaVersion(version.id, self.space_id))])

    async def put(self, relationships: Sequence[SpaceRelationship]) -> None:
        """Store relationships in the place of those with their keys."""
        if not relationships:
            return
        keys = [each.key for each in relationships]
        before = await self.at_keys(keys)
        await self._delete(list(before))
        rows = [
            {
                "tenant_id": self.tenant_id,
                "space_id": self.space_id,
                "resource": each.resource,
                "relation": each.relation,
                "subject": each.subject,
                "condition": each.condition,
                "context": each.context,
                "expire_time": each.expire_time,
            }
            for each in relationships
        ]
        await self.connection.execute(insert(SPACE_RELATIONSHIP), rows)
        await self._record([Changed(each, before=before.get(each.key)) for each in relationships])

    async def remove(self, keys: Sequence[Key]) -> int:
        """Delete relationships by their keys; how many were there."""
        there = await self.at_keys(keys)
        await self._delete(list(there))
        await self._record([Changed(each, kept=False, before=each) for each in there.values()])
        return len(there)

    async def _delete(self, keys: Sequence[Key]) -> None:
        for part in _parts(keys):
            await self.connection.execute(delete(SPACE_RELATIONSHIP).where(*self._mine(), tuple_(*_KEY).in_(part)))

    async def _record(self, changes: Sequence[Changed]) -> None:
        await changelog.append(self.connection, self.scope, self.at, self.now, len(self.changes), changes)
        self.changes.extend(changes)


async def create(connection: AsyncConnection, tenant_id: str, space: ModelSpace) -> str:
    """Store a new space; the id of the one that has its display name already, else an empty text."""
    columns, key = MODEL_SPACE.c, " ".join(space.display_name.casefold().split())
    values = {
        "tenant_id": tenant_id,
        "space_id": space.id,
        "display_name": space.display_name,
        "display_key": key,
        "schema_id": "",
        "revision": 0,
        "create_time": space.create_time,
        "creator": space.creator,
    }
    if (await connection.execute(insert_missing(MODEL_SPACE), values)).rowcount:
        return ""
    named = select(columns.space_id).where(columns.tenant_id == tenant_id, columns.display_key == key)
    found: str = (await connection.execute(named)).scalar_one()
    return found


async def count(connection: AsyncConnection, tenant_id: str) -> int:
    """How many spaces a tenant has."""
    mine = select(func.count()).select_from(MODEL_SPACE).where(MODEL_SPACE.c.tenant_id == tenant_id)
    return (await connection.execute(mine)).scalar_one()


async def listed(connection: AsyncConnection, tenant_id: str, limit: int, after: str) -> list[ModelSpace]:
    """A tenant's spaces behind an id, in the order of their ids."""
    columns = MODEL_SPACE.c
    page = select(MODEL_SPACE).where(columns.tenant_id == tenant_id, columns.space_id > after)
    return [_space(row) for row in await connection.execute(page.order_by(columns.space_id).limit(limit))]


async def space_of(connection: AsyncConnection, tenant_id: str, schema_id: str) -> str:
    """The space that a version belongs to; empty where the tenant has no such version."""
    columns = MODEL_SCHEMA.c
    named = select(columns.space_id).where(columns.tenant_id == tenant_id, columns.schema_id == schema_id)
    return (await connection.execute(named)).scalar_one_or_none() or ""


class SpaceState:
    """A space's engine, at the revision that the engine says."""

    __slots__ = ("engine", "made")

    def __init__(self, engine: RelationEngine) -> None:
        self.made: datetime | None = None
        self.engine = engine

    @property
    def revision(self) -> int:
        """The revision that it is at."""
        return self.engine.revision

    @property
    def weight(self) -> int:
        """How many facts and names it holds."""
        return len(self.engine.graph.names) + self.engine.graph.count

    def apply(self, revision: int, changes: Sequence[Changed], made: datetime | None = None) -> None:
        """Take over the changes that lead to a revision, and when it was made; another schema needs another engine."""
        if any(isinstance(each.what, SchemaVersion) for each in changes):
            raise changelog.ExpiredError(revision + 1)
        if revision != self.revision:
            self.made = made
        stored = ((each.what, each.kept) for each in changes)
        self.engine.apply(
            revision,
            [
                Change(as_relationship(what), removed=not kept)
                for what, kept in stored
                if isinstance(what, SpaceRelationship)
            ],
        )


class SpaceLoader:
    """Loads spaces' engines; a scope is ``ten…/spc…``."""

    def __init__(self, database: Database, most_facts: int = MOST_FACTS) -> None:
        self._database = database
        self._most_facts = most_facts

    async def load(self, scope: str) -> SpaceState:
        """A new engine from the space's rows, without types where it has no schema; `unknown` for no space,
        ResourceExhausted for more than may be held.
        """
        tenant_id, _, space_id = scope.partition("/")
        async with self._database.read(background(tenant_id)) as connection:
            view = SpaceView(connection, tenant_id, space_id, utc_now())
            space = await view.space()
            if space is None:
                raise unknown(space_id)
            state = SpaceState(engine := await _empty(view, space.schema))
            state.made = (await changelog.point(connection, scope)).made
            async for part in view.everything():
                engine.apply(space.revision, [Change(as_relationship(each)) for each in part])
                require_room(state.weight, self._most_facts)
                await asyncio.sleep(0)
            engine.apply(space.revision, ())
        return state


class Validators:
    """Engines that hold nothing, by the schema: what a change may store is found out on the change's own connection.

    Whoever waited for a second connection with one in hand could wait for others who do the same.
    """

    def __init__(self) -> None:
        self._made: dict[str, RelationEngine] = {}

    async def of(self, view: SpaceView) -> RelationEngine:
        """The engine of a space's current schema; without types where it has none."""
        space = await view.space()
        schema_id = space.schema if space else ""
        made = self._made.get(schema_id)
        if made is None:
            if len(self._made) >= _MOST_VALIDATORS:
                self._made.clear()
            made = self._made[schema_id] = await _empty(view, schema_id)
        return made


async def _empty(view: SpaceView, schema_id: str) -> RelationEngine:
    version = await view.schema(schema_id)
    return RelationEngine(await parsed(version.source) if version else Schema({}, {}))


def unknown(space_id: str) -> InvalidArgument:
    """The error for a space that the tenant does not have."""
    return InvalidArgument.of_field("space", f"there is no modelSpaces/{space_id}", reason="UNKNOWN_MODEL_SPACE")


async def parsed(source: str) -> Schema:
    """The tree of a schema's text, made beside the event loop; `SchemaError` with line and column."""
    from pyairtable_mesh.runtime.authorization.language.parser import parse  # noqa: PLC0415 # the grammar

    return await asyncio.to_thread(parse, source)


def as_relationship(each: SpaceRelationship) -> Relationship:
    """A relationship as the engine takes it."""
    context: Mapping[str, Any] = json.loads(each.context) if each.context else {}
    expires = each.expire_time.timestamp() if each.expire_time else None
    return Relationship(each.resource, each.relation, each.subject, Term(each.condition, context, expires))


def _parts(keys: Sequence[Key]) -> list[Sequence[Key]]:
    return [keys[first : first + _KEYS_IN_ONE_STATEMENT] for first in range(0, len(keys), _KEYS_IN_ONE_STATEMENT)]


def _space(row: Any) -> ModelSpace:
    return ModelSpace(row.space_id, row.display_name, row.schema_id, row.revision, row.create_time, row.creator)


def _schema(row: Any) -> SchemaVersion:
    return SchemaVersion(row.schema_id, row.space_id, row.create_time, row.creator, row.source)


def _relationship(row: Any) -> SpaceRelationship:
    return SpaceRelationship(row.resource, row.relation, row.subject, row.condition, row.context, row.expire_time)
