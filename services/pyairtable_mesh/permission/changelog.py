"""What each change did, in the change's own transaction: replicas follow it, and the past is found by undoing it.

An entry has the fact as it is now and as it was before, so that a state that is known can be led both ways. Writes of
a tenant are serial (runtime/database.py): revisions are committed in their order, and a reader of one snapshot sees
every entry up to the revision that it sees.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import BindParameter, bindparam, delete, func, insert, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission.domain import (
    Changed,
    Fact,
    Inheritance,
    Relationship,
    Revision,
    Role,
    RoleBinding,
    SchemaVersion,
    SpaceRelationship,
)
from pyairtable_mesh.permission.tables import CHANGELOG, MODEL_SPACE, REVISION
from pyairtable_mesh.runtime.columns import Timestamp, by_key
from pyairtable_mesh.runtime.writes import Write

PLATFORM = "platform"
"""The space of the product's schema."""
_SCOPES_IN_ONE_READ = 500
F = TypeVar("F", bound=Fact)


@dataclass(frozen=True)
class _Payload(Generic[F]):
    """A `Changed` of one kind of fact; JSON alone would not tell which."""

    what: F
    kept: bool
    before: F | None


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "relationship": msgspec.json.Decoder(_Payload[Relationship]),
    "binding": msgspec.json.Decoder(_Payload[RoleBinding]),
    "role": msgspec.json.Decoder(_Payload[Role]),
    "mode": msgspec.json.Decoder(_Payload[Inheritance]),
    "tuple": msgspec.json.Decoder(_Payload[SpaceRelationship]),
    "schema": msgspec.json.Decoder(_Payload[SchemaVersion]),
}
_NAMES = {
    Relationship: "relationship",
    RoleBinding: "binding",
    Role: "role",
    Inheritance: "mode",
    SpaceRelationship: "tuple",
    SchemaVersion: "schema",
}


def scope_of(tenant_id: str, space: str = "") -> str:
    """What has revisions of its own: a tenant, or (``spc…``) a model space of it."""
    return f"{tenant_id}/{space}" if space else tenant_id


def tenant_of(scope: str) -> str:
    """The tenant of a scope."""
    return scope.partition("/")[0]


def _named(scope: str) -> dict[str, str]:
    tenant_id, _, space = scope.partition("/")
    return {"tenant": tenant_id, "space": space or PLATFORM}


@dataclass(frozen=True, slots=True)
class Tail:
    """The changes behind a revision, and the newest revision; not all of them where `complete` is False."""

    newest: int
    revisions: Sequence[Revision]
    complete: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A revision of one history, told apart by when it was made: a database that was restored comes to the same number
    again, and not at the same time. `made` is None where it is not kept, or changed nothing.
    """

    revision: int
    made: datetime | None = None


class ExpiredError(Exception):
    """What came behind a revision is not kept, or that revision is not; `oldest` is one that can be gone back to."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"changes are kept from revision {oldest} on")
        self.oldest = oldest


_TENANT: BindParameter[str] = bindparam("tenant")
_NEWEST = by_key(select(REVISION.c.revision).where(REVISION.c.tenant_id == _TENANT))
_NEWEST_OF_SPACE = by_key(
    select(MODEL_SPACE.c.revision).where(
        MODEL_SPACE.c.tenant_id == _TENANT, MODEL_SPACE.c.space_id == bindparam("space")
    )
)
_MINE = (CHANGELOG.c.tenant_id == _TENANT, CHANGELOG.c.space == bindparam("space"))
# A revision that is partly pruned has lost its first change, and is gone as a whole.
_FIRST = select(func.min(CHANGELOG.c.revision)).where(*_MINE, CHANGELOG.c.ordinal == 0)
_MADE = by_key(
    select(CHANGELOG.c.create_time).where(*_MINE, CHANGELOG.c.revision == bindparam("at"), CHANGELOG.c.ordinal == 0)
)
_AFTER = (
    select(CHANGELOG)
    .where(*_MINE, CHANGELOG.c.revision > bindparam("after"))
    .order_by(CHANGELOG.c.revision, CHANGELOG.c.ordinal)
    .limit(bindparam("most"))
)
_REST = (
    select(CHANGELOG)
    .where(*_MINE, CHANGELOG.c.revision == bindparam("at"), CHANGELOG.c.ordinal > bindparam("ordinal"))
    .order_by(CHANGELOG.c.ordinal)
)
_BACKWARDS = (
    select(CHANGELOG)
    .where(*_MINE, CHANGELOG.c.revision > bindparam("after"), CHANGELOG.c.revision <= bindparam("upto"))
    .order_by(CHANGELOG.c.revision.desc(), CHANGELOG.c.ordinal.desc())
    .limit(bindparam("most"))
)
_BEGINNING = (
    select(CHANGELOG)
    .where(*_MINE, CHANGELOG.c.revision == bindparam("at"), CHANGELOG.c.ordinal < bindparam("ordinal"))
    .order_by(CHANGELOG.c.ordinal.desc())
)
_KEYS = {
    "sqlite": "SELECT json_extract(value, '$.tenant') AS tenant, json_extract(value, '$.space') AS space,"
    " json_extract(value, '$.at') AS at FROM json_each(:keys)",
    "postgresql": "SELECT * FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS key(tenant text, space text, at bigint)",
}
_MADE_AT = {
    dialect: text(f"""
        SELECT c.tenant_id, c.space, c.revision, c.create_time FROM ({keys}) AS key CROSS JOIN changelog AS c
        WHERE c.tenant_id = key.tenant AND c.space = key.space AND c.revision = key.at AND c.ordinal = 0
    """).columns(create_time=Timestamp())  # noqa: S608 - constants of this module
    for dialect, keys in _KEYS.items()
}
"""When some revisions were made, as text: there may be hundreds, and Core would take longer to put them into an IN."""
_APPEND = Write(insert(CHANGELOG))


async def append(
    connection: AsyncConnection, scope: str, revision: int, now: datetime, ordinal: int, changes: Sequence[Changed]
) -> None:
    """Write changes of one revision down, numbered from `ordinal` on."""
    named = _named(scope)
    common = {"tenant_id": named["tenant"], "space": named["space"], "revision": revision, "create_time": now}
    rows = [
        {**common, "ordinal": number, "kind": _NAMES[type(each.what)], "payload": msgspec.json.encode(each)}
        for number, each in enumerate(changes, ordinal)
    ]
    if rows:
        await _APPEND(connection, rows)


async def newest(connection: AsyncConnection, scope: str) -> int:
    """The revision that the connection sees; 0 before the first change."""
    named = _named(scope)
    if named["space"] == PLATFORM:
        return (await connection.execute(_NEWEST, {"tenant": named["tenant"]})).scalar_one_or_none() or 0
    return (await connection.execute(_NEWEST_OF_SPACE, named)).scalar_one_or_none() or 0


async def newest_of(connection: AsyncConnection, scopes: Sequence[str]) -> dict[str, int]:
    """The revisions of scopes, as a connection that may see all of them sees them."""
    found: dict[str, int] = {}
    for first in range(0, len(scopes), _SCOPES_IN_ONE_READ):
        part = scopes[first : first + _SCOPES_IN_ONE_READ]
        tenants = REVISION.c.tenant_id.in_([each for each in part if "/" not in each])
        found |= {row.tenant_id: row.revision for row in await connection.execute(select(REVISION).where(tenants))}
        spaces = MODEL_SPACE.c.space_id.in_([each.partition("/")[2] for each in part if "/" in each])
        columns = (MODEL_SPACE.c.tenant_id, MODEL_SPACE.c.space_id, MODEL_SPACE.c.revision)
        for row in await connection.execute(select(*columns).where(spaces)):
            found[scope_of(row.tenant_id, row.space_id)] = row.revision
    return {scope: revision for scope, revision in found.items() if scope in scopes}


async def point(connection: AsyncConnection, scope: str, revision: int | None = None) -> Point:
    """A revision (None: the newest) of the history that the connection sees."""
    at = await newest(connection, scope) if revision is None else revision
    return Point(at, await _made(connection, scope, at))


async def goes_through(connection: AsyncConnection, scope: str, held: Point) -> bool:
    """Whether the history that the connection sees is the one of `held`, as far as its changelog can tell."""
    return agree(held, await _made(connection, scope, held.revision))


async def elsewhere(connection: AsyncConnection, held: Mapping[str, Sequence[Point]]) -> set[str]:
    """The scopes whose history does not go through each point of it that is held, for a connection that may see all."""
    keys = [{**_named(scope), "at": each.revision} for scope, points in held.items() for each in points]
    if not keys:
        return set()
    known = {(scope, each.revision): each for scope, points in held.items() for each in points}
    statement = _MADE_AT[connection.dialect.name]
    found = set[str]()
    for row in await connection.execute(statement, {"keys": json.dumps(keys)}):
        scope = scope_of(row.tenant_id, "" if row.space == PLATFORM else row.space)
        if not agree(known[scope, row.revision], row.create_time):
            found.add(scope)
    return found


async def _made(connection: AsyncConnection, scope: str, revision: int) -> datetime | None:
    return (await connection.execute(_MADE, {**_named(scope), "at": revision})).scalar_one_or_none()


def agree(held: Point, made: datetime | None) -> bool:
    """Whether a point that is held is of a history in which its revision was made then."""
    # What is kept no longer tells nothing; what is there now and was not before came another way.
    return made is None or made == held.made


async def read(connection: AsyncConnection, scope: str, after: int, most: int) -> Tail:
    """The revisions behind `after`, whole ones of about `most` changes together. `connection` is one snapshot.

    `ExpiredError` when some of them are not kept any longer, or the database is behind `after`: it was restored, or
    failed over before it had taken over everything, and what was known at `after` is not so.
    """
    last = await newest(connection, scope)
    if after > last:
        raise ExpiredError(last)
    if after == last:
        return Tail(last, (), complete=True)
    mine = _named(scope)
    await _require_kept(connection, mine, after, last)
    rows = list((await connection.execute(_AFTER, {**mine, "after": after, "most": most})).all())
    complete = len(rows) < most
    if not complete:
        end = {"at": rows[-1].revision, "ordinal": rows[-1].ordinal}
        rows += (await connection.execute(_REST, {**mine, **end})).all()
    return Tail(last, [_revision(number, list(group)) for number, group in groupby(rows, _number)], complete)


async def read_backwards(
    connection: AsyncConnection, scope: str, after: int, upto: int, most: int
) -> Sequence[Revision]:
    """The newest revisions behind `after` and up to `upto`, whole ones of about `most` changes together, newest first.

    `ExpiredError` as for `read`.
    """
    mine = _named(scope)
    await _require_kept(connection, mine, after, upto)
    rows = list((await connection.execute(_BACKWARDS, {**mine, "after": after, "upto": upto, "most": most})).all())
    if len(rows) == most:
        begin = {"at": rows[-1].revision, "ordinal": rows[-1].ordinal}
        rows += (await connection.execute(_BEGINNING, {**mine, **begin})).all()
    return [_revision(number, list(group)[::-1]) for number, group in groupby(rows, _number)]


async def _require_kept(connection: AsyncConnection, mine: Mapping[str, str], after: int, last: int) -> None:
    first = (await connection.execute(_FIRST, mine)).scalar_one()
    if first is None or after < first - 1:
        raise ExpiredError(last if first is None else first - 1)


_number = attrgetter("revision")


def _revision(number: int, rows: Sequence[object]) -> Revision:
    return Revision(number, rows[0].create_time, [_changed(row.kind, row.payload) for row in rows])  # type: ignore[attr-defined]


def _changed(kind: str, payload: bytes) -> Changed:
    found = _DECODERS[kind].decode(payload)
    return Changed(found.what, found.kept, found.before)


async def prune(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete up to `limit` changes made before a moment; how many there were.

    Of each scope only what comes before everything that is kept: the clocks of those who write differ, and a gap would
    make of older revisions states that never were.
    """
    columns = CHANGELOG.c
    owner, key = (columns.tenant_id, columns.space), (columns.revision, columns.ordinal)
    deleted = 0
    for scope in (await connection.execute(select(*owner).where(columns.create_time < before).distinct())).all():
        mine = (columns.tenant_id == scope.tenant_id, columns.space == scope.space)
        kept = select(columns.revision).where(*mine, columns.create_time >= before).order_by(columns.revision).limit(1)
        first = (await connection.execute(kept)).scalar_one_or_none()
        old = select(*key).where(*mine, *([columns.revision < first] if first is not None else []))
        oldest = old.order_by(*key).limit(limit - deleted)
        deleted += (await connection.execute(delete(CHANGELOG).where(*mine, tuple_(*key).in_(oldest)))).rowcount
        if deleted >= limit:
            break
    return deleted


async def prune_excess(connection: AsyncConnection, most: int, limit: int) -> int:
    """Delete up to `limit` changes of a tenant that has more than `most`, the oldest first; how many were deleted."""
    columns = CHANGELOG.c
    owner = (columns.tenant_id, columns.space)
    many = select(*owner).group_by(*owner).having(func.count() > most).limit(1)
    found = (await connection.execute(many)).one_or_none()
    if found is None:
        return 0
    mine = tuple_(*owner) == tuple_(found.tenant_id, found.space)
    key = (columns.revision, columns.ordinal)
    newest = select(*key).where(mine).order_by(columns.revision.desc(), columns.ordinal.desc()).limit(most)
    oldest = select(*key).where(mine, tuple_(*key).not_in(newest)).order_by(*key).limit(limit)
    return (await connection.execute(delete(CHANGELOG).where(mine, tuple_(*key).in_(oldest)))).rowcount
