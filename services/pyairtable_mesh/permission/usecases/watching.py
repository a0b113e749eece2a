"""Following what changes: each revision once, in order, with a sign of life when nothing does."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace

from pyairtable_mesh.permission import changelog, schema
from pyairtable_mesh.permission.domain import Fact, Resource, Revision, Role, SchemaVersion, SpaceRelationship
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.feeds import Feed
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.spaces import SpaceView, unknown
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.usecases.authority import Authority, RefusalsRecorded
from pyairtable_mesh.permission.usecases.consistency import Tokens
from pyairtable_mesh.runtime.authorization import dump
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.events import POLL_SECONDS
from pyairtable_mesh.runtime.moments import utc_now
from pyairtable_mesh.runtime.signals import Signal

_CHANGES_IN_ONE_READ = 1_000
_SNAPSHOTS_AT_ONCE = 2
"""After a restart everybody asks for one: each holds a connection, a tenant's state and its binary form."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The changes of a revision, or (None) a sign of life; `revision` is the newest that has been passed on."""

    revision: int
    token: str
    changes: Revision | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An engine's state in its binary form, at a revision."""

    at: changelog.Point
    token: str
    data: bytes

    @property
    def revision(self) -> int:
        """The revision that it is at."""
        return self.at.revision


class Watching:
    """Streams that end when the process is `leaving`: their clients resume elsewhere."""

    def __init__(
        self,
        database: Database,
        engines: Engines[State],
        loader: Loader,
        authority: Authority,
        tokens: Tokens,
        leaving: asyncio.Event,
        log: DecisionLog,
    ) -> None:
        self._database = database
        self._engines = engines
        self._loader = loader
        self._authority = authority
        self._tokens = tokens
        self._leaving = leaving
        self._log = log
        self._snapshots = asyncio.Semaphore(_SNAPSHOTS_AT_ONCE)

    async def watch(
        self, caller: RequestContext, space: str, token: str, types: Collection[str], heartbeat: float
    ) -> AsyncIterator[Beat]:
        """What changes at resources of some types (empty: all) of a space (empty: the platform's) behind the state of a
        token (empty: the present), for those who manage access in the tenant, as long as they do; at least every
        `heartbeat` seconds something.
        """
        if not space:
            _require_known(types)
        await self._require_manager(caller, space)
        scope = changelog.scope_of(caller.tenant_id, space)
        after = self._tokens.point(scope, token, "start_token") if token else None
        with self._tokens.kept(scope):
            async for beat in self._follow(scope, after, frozenset(types), heartbeat):
                await self._require_manager(caller, space)
                yield beat

    async def replica(
        self, tenant_id: str, token: str, types: Collection[str], heartbeat: float
    ) -> AsyncIterator[Snapshot | Beat]:
        """A snapshot, then what changes; the changes alone behind a checkpoint that is still kept."""
        _require_known(types)
        wanted = with_ancestors(types)
        after = self._tokens.point(tenant_id, token, "checkpoint_token") if token else None
        while not self._leaving.is_set():
            if after is None:
                snapshot = await self._snapshot(tenant_id, wanted)
                after = snapshot.at
                yield snapshot
                del snapshot
            try:
                async for beat in self._follow(tenant_id, after, wanted, heartbeat):
                    yield beat
            except changelog.ExpiredError:
                after = None

    async def _snapshot(self, tenant_id: str, types: Collection[str]) -> Snapshot:
        async with self._snapshots:
            state = await self._loader.load(tenant_id, lambda fact: not types or type_of(fact) in types)
            data = await asyncio.to_thread(dump, state.engine)
        at = changelog.Point(state.revision, state.made)
        return Snapshot(at, self._tokens.checkpoint(tenant_id, at), data)

    async def _follow(
        self, scope: str, begin: changelog.Point | None, types: Collection[str], heartbeat: float
    ) -> AsyncIterator[Beat]:
        with self._engines.following(scope) as feed:
            async for beat in self._beats(scope, feed, begin, types, heartbeat):
                yield beat

    async def _beats(
        self, scope: str, feed: Feed, begin: changelog.Point | None, types: Collection[str], heartbeat: float
    ) -> AsyncIterator[Beat]:
        # What was seen last: by when it was made, a database that was put back is noticed.
        seen = begin if begin is not None and begin.made is not None else None
        after = begin.revision if begin is not None else None
        due, told, lost = time.monotonic(), after, feed.lost
        while not self._leaving.is_set():
            upcoming = feed.moved.upcoming()
            tail = feed.since(after) if after is not None and seen is not None and feed.lost == lost else None
            if after is None or seen is None or tail is None:
                seen, after, tail = await self._read(scope, feed, seen, after, lost)
            for each in tail.revisions:
                after, seen = each.number, changelog.Point(each.number, each.time)
                changes = [change for change in each.changes if not types or type_of(change.what) in types]
                if changes:
                    yield Beat(after, self._tokens.checkpoint(scope, seen), replace(each, changes=changes))
                    due, told = time.monotonic() + heartbeat, after
            if tail.complete:
                after = max(after, tail.newest)
            # Whoever waits for a revision learns, too, that it changed nothing of what is asked for.
            if after != told or time.monotonic() >= due:
                at = seen if seen.revision == after else changelog.Point(after)
                yield Beat(after, self._tokens.checkpoint(scope, at))
                due, told = time.monotonic() + heartbeat, after
            if tail.complete:
                await Signal.wait(upcoming, max(0.0, min(POLL_SECONDS, due - time.monotonic())))

    async def _read(
        self, scope: str, feed: Feed, seen: changelog.Point | None, after: int | None, lost: int
    ) -> tuple[changelog.Point, int, changelog.Tail]:
        now = feed.clock()
        async with self._database.read(background(changelog.tenant_of(scope))) as connection:
            if seen is None or after is None:
                seen = await changelog.point(connection, scope, after)
                after = seen.revision
            elif feed.lost != lost or not await changelog.goes_through(connection, scope, seen):
                raise changelog.ExpiredError(await changelog.newest(connection, scope))
            tail = await changelog.read(connection, scope, after, _CHANGES_IN_ONE_READ)
        feed.take(after, tail, now, seen)
        return seen, after, tail

    async def _require_manager(self, caller: RequestContext, space: str) -> None:
        async with self._database.read(caller) as connection:
            view = View(connection, caller.tenant_id, utc_now())
            tenant = Resource(schema.TENANT, caller.tenant_id)
            with RefusalsRecorded(self._log, caller):
                await self._authority.require(view, caller.user(), [(tenant, schema.MANAGE_ACCESS)])
            if space and await SpaceView(connection, caller.tenant_id, space, view.now).space() is None:
                raise unknown(space)


def type_of(fact: Fact) -> str:
    """The type of the resource that a fact is about; roles are everywhere, and count as what a tenant has."""
    if isinstance(fact, Role | SchemaVersion):
        return schema.TENANT
    return fact.resource.partition(":")[0] if isinstance(fact, SpaceRelationship) else fact.resource.type


def _require_known(types: Collection[str]) -> None:
    for index, each in enumerate(types):
        if each not in schema.TYPES:
            words = f"there is no type {each!r}"
            raise InvalidArgument.of_field(f"resource_types[{index}]", words, reason="UNKNOWN_TYPE")


def with_ancestors(types: Collection[str]) -> frozenset[str]:
    """The types, all that they inherit from, and groups; empty where none are named."""
    found = set(types)
    for name in types:
        here = name
        while here := schema.TYPES[here].parent:
            found.add(here)
    return frozenset(found | {schema.GROUP, schema.TENANT}) if types else frozenset()
