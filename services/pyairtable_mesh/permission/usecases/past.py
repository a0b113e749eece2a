"""Lists as they were at a revision: the present rows, with what happened since then undone."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Changed, Filter, Relationship, RoleBinding, SpaceRelationship
from pyairtable_mesh.permission.spaces import Key, SpaceView
from pyairtable_mesh.permission.store import RelationshipKey, View
from pyairtable_mesh.runtime.asyncio_core import AsyncConnection

_CHANGES_IN_ONE_READ = 10_000


class _Expires(Protocol):
    @property
    def expire_time(self) -> datetime | None: ...


F = TypeVar("F", bound=_Expires)


async def relationships(
    view: View, revision: int, wanted: Filter, limit: int, after: RelationshipKey | None
) -> list[Relationship]:
    """As `View.relationships`, at a revision that is not behind the view; `changelog.ExpiredError` as there."""
    before = dict[Any, Relationship | None]()
    for each in await _since(view.connection, view.tenant_id, revision):
        if isinstance(each.what, Relationship) and wanted.matches(each.what):
            stored = each.before
            before.setdefault(relationship_key(each.what), stored if isinstance(stored, Relationship) else None)
    return await _page(
        lambda most: view.relationships(wanted, most, after), before, relationship_key, limit, after or (), view.now
    )


async def space_relationships(
    view: SpaceView, revision: int, wanted: Filter, limit: int, after: Key | None
) -> list[SpaceRelationship]:
    """The same in a model space."""
    before = dict[Any, SpaceRelationship | None]()
    for each in await _since(view.connection, view.scope, revision):
        if isinstance(each.what, SpaceRelationship) and wanted.selects(*each.what.key):
            before.setdefault(each.what.key, each.before if isinstance(each.before, SpaceRelationship) else None)
    return await _page(
        lambda most: view.relationships(wanted, most, after), before, _space_key, limit, after or (), view.now
    )


def _space_key(each: SpaceRelationship) -> Key:
    return each.key


async def bindings(view: View, revision: int, limit: int, after: str, **wanted: str) -> list[RoleBinding]:
    """As `View.bindings`, with its filters, at a revision that is not behind the view."""
    before = dict[Any, RoleBinding | None]()
    for each in await _since(view.connection, view.tenant_id, revision):
        binding = each.what
        if isinstance(binding, RoleBinding) and all(
            not value or str(getattr(binding, name)) == value for name, value in wanted.items()
        ):
            before.setdefault(binding.id, each.before if isinstance(each.before, RoleBinding) else None)
    return await _page(
        lambda most: view.bindings(most, after=after, **wanted), before, _binding_id, limit, after, view.now
    )


def relationship_key(each: Relationship) -> RelationshipKey:
    """What relationships are listed by."""
    return str(each.resource), each.relation, str(each.subject)


def _binding_id(each: RoleBinding) -> str:
    return each.id


async def _since(connection: AsyncConnection, scope: str, revision: int) -> Iterable[Changed]:
    found: list[Changed] = []
    while True:
        tail = await changelog.read(connection, scope, revision, _CHANGES_IN_ONE_READ)
        found += [change for each in tail.revisions for change in each.changes]
        if tail.complete:
            return found
        revision = tail.revisions[-1].number


async def _page(
    read: Callable[[int], Awaitable[Sequence[F]]],
    before: dict[Any, F | None],
    key_of: Callable[[F], Any],
    limit: int,
    after: Any,
    now: datetime,
) -> list[F]:
    """The first `limit` facts behind `after`, where `before` has what stood at keys that have changed since."""
    most = limit + len(before)
    rows = await read(most)
    found = {key_of(each): each for each in rows}
    end = key_of(rows[-1]) if len(rows) == most else None
    for key, stood in before.items():
        found.pop(key, None)
        alive = stood is not None and (stood.expire_time is None or stood.expire_time > now)
        if stood is not None and alive and key > after and (end is None or key <= end):
            found[key] = stood
    return [found[key] for key in sorted(found)][:limit]
