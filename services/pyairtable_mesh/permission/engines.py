"""The engines that this replica holds: one for each tenant that is asked about, led along the tenant's changelog.

An engine is loaded from the rows when its tenant is first asked about, and follows the changelog from then on: at once
after a change of this process, soon after one of another (LISTEN/NOTIFY, with a poll behind it). Who needs a revision
does not wait for any of that: it reads the changelog itself. So a token is never answered from an older state, however
late notifications are, and without one the answer is at most a poll behind.

Applying one revision is one step of the event loop; so is whatever a caller does with a state without awaiting.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pyairtable_mesh.permission import changelog, schema
from pyairtable_mesh.permission.domain import Changed, Fact, Inheritance, Relationship, Revision, Role, RoleBinding
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.runtime.authorization import (
    Binding,
    BindingChange,
    Change,
    ModeChange,
    RoleChange,
    ScopedChange,
    ScopedEngine,
    ScopedLookup,
    ScopeMode,
    Term,
    facts,
    product,
)
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.events import POLL_SECONDS
from pyairtable_mesh.runtime.moments import utc_now
from pyairtable_mesh.runtime.signals import Signal

MOST_FACTS = 5_000_000
"""How many relationships, bindings and names the engines hold together; about 150 bytes each."""
MOST_ENGINES = 1_000
_CHANGES_IN_ONE_READ = 5_000
_LOADS_AT_ONCE = 2
_logger = logging.getLogger(__name__)


class State:
    """A tenant's engine, at the revision that the engine says, and its lists."""

    __slots__ = ("engine", "lookup")

    def __init__(self, engine: ScopedEngine) -> None:
        self.engine = engine
        self.lookup = ScopedLookup(engine)

    @property
    def revision(self) -> int:
        """The revision that it is at."""
        return self.engine.revision

    @property
    def weight(self) -> int:
        """How many facts and names it holds."""
        graph = self.engine.graph
        return len(graph.names) + graph.count + len(self.engine.bindings)


class _Held:
    """What is held of a tenant: the present and, where somebody asked for it, one state of the past."""

    def __init__(self, present: State) -> None:
        self.present = present
        self.past: State | None = None
        self.catching_up = asyncio.Lock()
        self.looking_back = asyncio.Lock()

    @property
    def weight(self) -> int:
        return self.present.weight + (self.past.weight if self.past else 0)


class Engines:
    """All engines of a process, for any number of tasks of its event loop; the least recently used make room."""

    def __init__(self, database: Database, most_facts: int = MOST_FACTS, most_engines: int = MOST_ENGINES) -> None:
        self._database = database
        self._most_facts = most_facts
        self._most_engines = most_engines
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._loading: dict[str, asyncio.Task[_Held]] = {}
        self._loads = asyncio.Semaphore(_LOADS_AT_ONCE)

    def nearest(self, tenant_id: str) -> State | None:
        """What is held of a tenant, however fresh; None where nothing is."""
        held = self._held.get(tenant_id)
        if held is None:
            return None
        self._held.move_to_end(tenant_id)
        return held.present

    async def at_least(self, tenant_id: str, revision: int = 0) -> State:
        """A state that has seen a revision, if the database has; 0 for whatever is nearest."""
        held = await self._of(tenant_id)
        if held.present.revision < revision:
            await self._catch_up(tenant_id, held, revision)
        return held.present

    async def newest(self, tenant_id: str) -> State:
        """The newest committed state."""
        held = await self._of(tenant_id)
        async with self._database.read(background(tenant_id)) as connection:
            revision = await changelog.newest(connection, tenant_id)
        await self._catch_up(tenant_id, held, revision)
        return held.present

    @asynccontextmanager
    async def exactly(self, tenant_id: str, revision: int) -> AsyncIterator[State]:
        """The state at a revision, to be used without awaiting in between; the newest where the database is behind it.

        `changelog.ExpiredError` when it can be gone back to no longer.
        """
        held = await self._of(tenant_id)
        if held.present.revision < revision:
            await self._catch_up(tenant_id, held, revision)
        if held.present.revision <= revision:
            yield held.present
            return
        async with held.looking_back:
            yield await self._past(tenant_id, held, revision)

    def committed(self, tenant_id: str, revision: int, changes: Sequence[Changed]) -> None:
        """Take over a change that this process has committed, where nothing is missing before it."""
        held = self._held.get(tenant_id)
        if held is not None and held.present.revision == revision - 1:
            try:
                _apply(held.present, revision, changes)
            except Exception:
                _logger.exception("an engine could not take over a change, and will be loaded anew")
                del self._held[tenant_id]

    async def follow(self) -> None:
        """Follow what other processes change, until cancelled."""
        while True:
            upcoming = self._database.changed.upcoming()
            try:
                await self._look()
            except MeshError as error:
                _logger.warning("the changelog cannot be read, and is tried again: %s", error.reason)
            except Exception:
                _logger.exception("following the changelog failed, and is tried again")
            await Signal.wait(upcoming, POLL_SECONDS)

    async def _look(self) -> None:
        async with self._database.read(background()) as connection:
            newest = await changelog.newest_of(connection, list(self._held))
        for tenant_id, revision in newest.items():
            held = self._held.get(tenant_id)
            if held is not None and held.present.revision < revision:
                await self._catch_up(tenant_id, held, revision)

    async def _of(self, tenant_id: str) -> _Held:
        held = self._held.get(tenant_id)
        if held is None:
            loading = self._loading.get(tenant_id)
            if loading is None:
                loading = self._loading[tenant_id] = asyncio.create_task(self._begin(tenant_id))
                loading.add_done_callback(lambda _: self._loading.pop(tenant_id))
            # Whoever gives up waiting does not take the engine from the others.
            held = await asyncio.shield(loading)
        if tenant_id in self._held:
            self._held.move_to_end(tenant_id)
        return held

    async def _begin(self, tenant_id: str) -> _Held:
        async with self._loads:
            held = self._held[tenant_id] = _Held(await self.load(tenant_id))
        self._make_room()
        return held

    def _make_room(self) -> None:
        weight = sum(each.weight for each in self._held.values())
        while len(self._held) > 1 and (weight > self._most_facts or len(self._held) > self._most_engines):
            _, forgotten = self._held.popitem(last=False)
            weight -= forgotten.weight

    async def load(self, tenant_id: str, wanted: Callable[[Fact], bool] | None = None) -> State:
        """A new engine from the tenant's rows, or those that are wanted, held by nobody."""
        engine = ScopedEngine(product.policy(), f"{schema.TENANT}:{tenant_id}")
        engine.apply(0, [RoleChange(role, permissions) for role, permissions in schema.SYSTEM_ROLES.items()])
        async with self._database.read(background(tenant_id)) as connection:
            revision = await changelog.newest(connection, tenant_id)
            async for part in View(connection, tenant_id, utc_now()).everything():
                engine.apply(revision, (as_change(Changed(each)) for each in part if wanted is None or wanted(each)))
                await asyncio.sleep(0)
        return State(engine)

    async def _catch_up(self, tenant_id: str, held: _Held, revision: int) -> None:
        async with held.catching_up:
            try:
                while held.present.revision < revision:
                    tail = await self._tail(tenant_id, held.present.revision)
                    await _advance(held.present, tail.revisions)
                    if tail.complete:
                        _apply(held.present, max(tail.newest, held.present.revision), ())
                        break
            except changelog.ExpiredError:
                held.present = await self.load(tenant_id)

    async def _past(self, tenant_id: str, held: _Held, revision: int) -> State:
        past = held.past
        try:
            if past is not None and past.revision <= revision:
                return await self._forward(tenant_id, past, revision)
        except changelog.ExpiredError:
            past = held.past = None
        if past is None:
            past = await self.load(tenant_id)
            held.past = past
            self._make_room()
        return await self._back(tenant_id, past, revision)

    async def _forward(self, tenant_id: str, past: State, revision: int) -> State:
        while past.revision < revision:
            tail = await self._tail(tenant_id, past.revision)
            await _advance(past, [each for each in tail.revisions if each.number <= revision])
            if past.revision < revision and (tail.complete or tail.revisions[-1].number > revision):
                _apply(past, revision, ())
        return past

    async def _back(self, tenant_id: str, past: State, revision: int) -> State:
        undone: list[Revision] = []
        tail = await self._tail(tenant_id, revision)
        undone += tail.revisions
        while not tail.complete and undone[-1].number < past.revision:
            tail = await self._tail(tenant_id, undone[-1].number)
            undone += tail.revisions
        for each in reversed([each for each in undone if each.number <= past.revision]):
            _apply(past, each.number - 1, [change.undone for change in reversed(each.changes)])
            await asyncio.sleep(0)
        _apply(past, revision, ())
        return past

    async def _tail(self, tenant_id: str, after: int) -> changelog.Tail:
        async with self._database.read(background(tenant_id)) as connection:
            return await changelog.read(connection, tenant_id, after, _CHANGES_IN_ONE_READ)


async def _advance(state: State, revisions: Sequence[Revision]) -> None:
    for each in revisions:
        # A change of this very process may have been taken over in the meantime.
        if each.number > state.revision:
            _apply(state, each.number, each.changes)
            await asyncio.sleep(0)


def _apply(state: State, revision: int, changes: Sequence[Changed]) -> None:
    state.engine.apply(revision, map(as_change, changes))


def as_change(changed: Changed) -> ScopedChange:
    """A change as the engine takes it."""
    match changed.what:
        case Relationship():
            return Change(as_relationship(changed.what), removed=not changed.kept)
        case RoleBinding() as each:
            term = Term(expires=each.expire_time.timestamp()) if each.expire_time else Term()
            binding = Binding(each.id, each.role, str(each.resource), str(each.subject), term)
            return BindingChange(binding, removed=not changed.kept)
        case Role():
            return RoleChange(changed.what.id, changed.what.permissions if changed.kept else None)
        case Inheritance():
            return ModeChange(str(changed.what.resource), ScopeMode(changed.what.mode.value))


def as_relationship(each: Relationship) -> facts.Relationship:
    """A relationship as the engine takes it."""
    term = Term(expires=each.expire_time.timestamp()) if each.expire_time else Term()
    return facts.Relationship(str(each.resource), each.relation, str(each.subject), term)
