"""Lists as they were at a revision: the present rows, with what happened since then undone."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Changed, Fact, Filter, Relationship, RoleBinding, SpaceRelationship
from pyairtable_mesh.permission.spaces import Key, SpaceView
from pyairtable_mesh.permission.store import RelationshipKey, View

MOST_CHANGED = 10_000
"""How many keys that have changed since a page keeps; up to twice as many for a moment, about 1 kB each."""
_CHANGES_IN_ONE_READ = 2_000
_START = ()
"""Before every key of a relationship."""
F = TypeVar("F", bound=Relationship | SpaceRelationship | RoleBinding)


async def relationships(
    view: View, revision: int, wanted: Filter, limit: int, after: RelationshipKey | None
) -> list[Relationship]:
    """As `View.relationships`, at a revision that is not behind the view; `changelog.ExpiredError` as there."""

    def key(fact: Fact) -> RelationshipKey | None:
        return relationship_key(fact) if isinstance(fact, Relationship) and wanted.matches(fact) else None

    def read(most: int, place: Any) -> Awaitable[Sequence[Relationship]]:
        return view.relationships(wanted, most, place or None)

    return await _Past(view.connection, view.tenant_id, revision, view.now, key, read).page(limit, after or _START)


async def space_relationships(
    view: SpaceView, revision: int, wanted: Filter, limit: int, after: Key | None
) -> list[SpaceRelationship]:
    """The same in a model space."""

    def key(fact: Fact) -> Key | None:
        return fact.key if isinstance(fact, SpaceRelationship) and wanted.selects(*fact.key) else None

    def read(most: int, place: Any) -> Awaitable[Sequence[SpaceRelationship]]:
        return view.relationships(wanted, most, place or None)

    return await _Past(view.connection, view.scope, revision, view.now, key, read).page(limit, after or _START)


async def bindings(view: View, revision: int, limit: int, after: str, **wanted: str) -> list[RoleBinding]:
    """As `View.bindings`, with its filters, at a revision that is not behind the view."""

    def key(fact: Fact) -> str | None:
        matches = isinstance(fact, RoleBinding) and all(
            not value or str(getattr(fact, name)) == value for name, value in wanted.items()
        )
        return fact.id if isinstance(fact, RoleBinding) and matches else None

    def read(most: int, place: str) -> Awaitable[Sequence[RoleBinding]]:
        return view.bindings(most, after=place, **wanted)

    return await _Past(view.connection, view.tenant_id, revision, view.now, key, read).page(limit, after)


def relationship_key(each: Relationship) -> RelationshipKey:
    """What relationships are listed by."""
    return str(each.resource), each.relation, str(each.subject)


class _Past(Generic[F]):
    """One list at a revision. `key_of` gives the key of a fact that is wanted, None for another; `read` gives up to so
    many present facts behind a key.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        scope: str,
        revision: int,
        now: datetime,
        key_of: Callable[[Fact], Any],
        read: Callable[[int, Any], Awaitable[Sequence[F]]],
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._revision = revision
        self._now = now
        self._key_of = key_of
        self._read = read

    async def page(self, limit: int, after: Any) -> list[F]:
        """The first `limit` facts behind a key. What a page takes of the changelog is bounded: where more has changed,
        the changelog is read again for the keys behind.
        """
        found: list[F] = []
        end = after
        while end is not None and len(found) < limit:
            part, end = await self._part(limit - len(found), end)
            found += part
        return found[:limit]

    async def _part(self, limit: int, after: Any) -> tuple[list[F], Any]:
        """Facts behind a key, and the key that they go up to; None where they go to the end, or to the limit."""
        before, end = await self._before(after)
        most = limit + len(before)
        found: dict[Any, F] = {}
        for each in await self._read(most, after):
            if (key := self._key_of(each)) is not None and (end is None or key <= end):
                found[key] = each
        if len(found) == most:
            end = max(found)
        for key, stood in before.items():
            found.pop(key, None)
            if _stood(stood, self._now) and (end is None or key <= end):
                found[key] = cast("F", stood)
        listed = [found[key] for key in sorted(found)]
        return listed, None if len(listed) >= limit else end

    async def _before(self, after: Any) -> tuple[dict[Any, Fact | None], Any]:
        """What stood at keys that have changed since: at the least ones behind `after`, up to the second value, where
        there are more of them than are kept.
        """
        before: dict[Any, Fact | None] = {}
        end: Any = None
        async for change in self._changes():
            key = self._key_of(change.what)
            if key is None or key <= after or key in before or (end is not None and key > end):
                continue
            before[key] = change.before
            if len(before) == 2 * MOST_CHANGED:
                kept = sorted(before)[:MOST_CHANGED]
                before, end = {each: before[each] for each in kept}, kept[-1]
        return before, end

    async def _changes(self) -> AsyncIterator[Changed]:
        revision, complete = self._revision, False
        while not complete:
            tail = await changelog.read(self._connection, self._scope, revision, _CHANGES_IN_ONE_READ)
            for each in tail.revisions:
                revision = each.number
                for change in each.changes:
                    yield change
            complete = tail.complete


def _stood(stood: Fact | None, now: datetime) -> bool:
    if not isinstance(stood, Relationship | SpaceRelationship | RoleBinding):
        return False
    return stood.expire_time is None or stood.expire_time > now
