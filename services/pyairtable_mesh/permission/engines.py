"""The engines that this replica holds: one for each scope that is asked about, led along the scope's changelog.

A scope is what has revisions of its own: a tenant (``ten…``), or a model space of one (``ten…/spc…``). Its engine is
loaded from the rows when it is first asked about, and follows the changelog from then on: at once
after a change of this process, soon after one of another (LISTEN/NOTIFY, with a poll behind it). Who needs a revision
does not wait for any of that: it reads the changelog itself. So a token is never answered from an older state, however
late notifications are, and without one the answer is at most a poll behind. Where nobody can look, because the database
is away, what is held is believed for some seconds more, and then not at all: a revocation may have been missed.

Applying one revision is one step of the event loop; so is whatever a caller does with a state without awaiting.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Revision
from pyairtable_mesh.permission.feeds import Feed
from pyairtable_mesh.permission.held import MOST_FACTS, Held, S, State, Tally
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import MeshError, Unavailable
from pyairtable_mesh.runtime.events import POLL_SECONDS
from pyairtable_mesh.runtime.signals import Signal

MOST_ENGINES = 1_000
MOST_UNSEEN_SECONDS = 5.0
"""How long a state answers that nobody could compare with the database; some polls, so that a late one is nothing."""
MOST_STILL_SECONDS = 60.0
"""How long following may make no step before the process says that it is not ready: longer than any load takes."""
_PAUSE_SECONDS = 0.01
"""Between two looks at the database: a burst of changes is one."""
_CHANGES_IN_ONE_READ = 5_000
_LOADS_AT_ONCE = 2
_logger = logging.getLogger(__name__)


L_co = TypeVar("L_co", bound=State, covariant=True)


class Loader(Protocol[L_co]):
    """Where states come from."""

    async def load(self, scope: str) -> L_co:
        """The newest state of a scope, of a new engine."""
        ...


class Engines(Generic[S]):
    """All engines of a process, for any number of tasks of its event loop; the least recently used make room."""

    def __init__(
        self,
        database: Database,
        loader: Loader[S],
        most_facts: int = MOST_FACTS,
        most_engines: int = MOST_ENGINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._loader = loader
        self._most_facts = most_facts
        self._most_engines = most_engines
        self._clock = clock
        self._held: OrderedDict[str, Held[S]] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Held[S]]] = {}
        self._loads = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._missed: dict[str, int] = {}
        """The newest revisions that this process committed while a scope was loaded."""
        self._feeds: dict[str, Feed] = {}
        self._stepped = clock()
        self.tally = Tally()

    @property
    def count(self) -> int:
        """How many scopes are held."""
        return len(self._held)

    @property
    def facts(self) -> int:
        """How many relationships, bindings and names are held, the past's included."""
        return sum(each.weight for each in list(self._held.values()))

    @property
    def most_facts(self) -> int:
        """How many may be."""
        return self._most_facts

    @property
    def unseen(self) -> float:
        """Seconds since the state that was compared with the database longest ago was; 0 where nothing is held."""
        return max((self._clock() - each.seen for each in list(self._held.values())), default=0.0)

    @property
    def behind(self) -> int:
        """How many revisions the state that is farthest behind the database, as it was last seen, is behind it."""
        return max((each.newest - each.present.revision for each in list(self._held.values())), default=0)

    async def check(self) -> None:
        """The health check: `Unavailable` when the changelog is followed no longer."""
        still = self._clock() - self._stepped
        if still > MOST_STILL_SECONDS:
            words = f"the changelog was not followed for {still:.0f} s; this service's log says why"
            raise Unavailable(words, reason="DEPENDENCY_UNAVAILABLE")

    def nearest(self, scope: str) -> S | None:
        """What is held of a tenant, up to `MOST_UNSEEN_SECONDS` old; None where nothing is."""
        held = self._held.get(scope)
        if held is None or self._is_unseen(held):
            return None
        self._held.move_to_end(scope)
        return held.present

    def prepare(self, scope: str) -> None:
        """Begin to load what is not held, for who comes next."""
        if scope not in self._held:
            self._loaded(scope).add_done_callback(lambda task: task.cancelled() or task.exception())

    async def at_least(self, scope: str, revision: int = 0) -> S:
        """A state that has seen a revision, if the database has; 0 for whatever is nearest.

        Unavailable where it is needed and the database is away.
        """
        held = await self._of(scope)
        if self._is_unseen(held):
            return await self.newest(scope)
        if held.present.revision < revision:
            await self._catch_up(scope, held, revision)
        return held.present

    async def newest(self, scope: str) -> S:
        """The newest committed state."""
        held, seen = await self._of(scope), self._clock()
        before = held.point
        async with self._database.read(background(changelog.tenant_of(scope))) as connection:
            revision = await changelog.newest(connection, scope)
            is_same = await changelog.goes_through(connection, scope, before)
        if revision < before.revision or not is_same:
            self._forget(scope, held, "history")
            held = await self._of(scope)
        await self._catch_up(scope, held, revision)
        held.seen = seen
        return held.present

    @asynccontextmanager
    async def exactly(self, scope: str, revision: int) -> AsyncIterator[S]:
        """The state at a revision, to be used without awaiting in between; the newest where the database is behind it.

        `changelog.ExpiredError` when it can be gone back to no longer.
        """
        held = await self._of(scope)
        if held.present.revision < revision:
            await self._catch_up(scope, held, revision)
        if held.present.revision <= revision:
            yield held.present
            return
        async with held.looking_back:
            yield await self._past(scope, held, revision)

    @contextmanager
    def following(self, scope: str) -> Iterator[Feed]:
        """The scope's changes as `follow` hears of them, for as long as the block."""
        feed = self._feeds.setdefault(scope, Feed(self._clock))
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                del self._feeds[scope]

    def committed(self, scope: str, revision: Revision) -> None:
        """Take over a change that this process has committed, where nothing is missing before it."""
        before = revision.number - 1
        self._tell(scope, before, changelog.Tail(revision.number, [revision], complete=True), self._clock())
        if scope in self._loading:
            self._missed[scope] = revision.number
        held = self._held.get(scope)
        if held is not None and held.present.revision == before:
            try:
                held.present.apply(revision.number, revision.changes, revision.time if revision.changes else None)
                held.seen = self._clock()
                held.newest = max(held.newest, revision.number)
                held.moved()
            except changelog.ExpiredError:
                self._forget(scope, held, "schema")
            except Exception:
                _logger.exception("an engine could not take over a change, and will be loaded anew")
                self._forget(scope, held, "fault")
        if self._misses(scope, before):
            # It may be heard of later than this one is asked about.
            self._database.changed_elsewhere.notify()

    def _misses(self, scope: str, revision: int) -> bool:
        """Whether a change up to a revision is not seen here yet: another process's, then."""
        held, feed = self._held.get(scope), self._feeds.get(scope)
        seen = [held.present.revision] if held is not None else []
        if feed is not None and feed.newest is not None:
            seen.append(feed.newest)
        return any(each < revision for each in seen)

    async def follow(self) -> None:
        """Follow what other processes change, until cancelled."""
        while True:
            upcoming = self._database.changed_elsewhere.upcoming()
            try:
                await self._look()
                self._stepped = self._clock()
            except MeshError as error:
                self.tally.failures += 1
                _logger.warning("the changelog cannot be read, and is tried again: %s", error.reason)
            except Exception:
                self.tally.failures += 1
                _logger.exception("following the changelog failed, and is tried again")
            await asyncio.sleep(_PAUSE_SECONDS)
            await Signal.wait(upcoming, POLL_SECONDS)

    async def _look(self) -> None:
        # Read before the database is: what this process commits meanwhile may lead what the database is seen at.
        before = {scope: (held, held.present.revision) for scope, held in self._held.items()}
        fed = {scope: (feed, feed.newest) for scope, feed in self._feeds.items() if feed.newest is not None}
        if not before and not fed:
            return
        points = {scope: tuple(held.points) for scope, held in self._held.items()}
        fed_points = {scope: tuple(feed.points) for scope, (feed, _) in fed.items()}
        seen = self._clock()
        async with self._database.read(background()) as connection:
            newest = await changelog.newest_of(connection, list(before | fed))
            elsewhere = await changelog.elsewhere(connection, points)
            elsewhere |= await changelog.elsewhere(connection, fed_points)
        for scope, (feed, heard) in fed.items():
            if newest.get(scope, 0) < heard or scope in elsewhere:
                feed.lose()
            else:
                del feed.points[: len(fed_points[scope]) - 1]
                self._compare(feed, heard, newest.get(scope, 0), seen)
        for scope, (held, known) in before.items():
            revision = newest.get(scope, 0)
            if revision < known or scope in elsewhere:
                self._forget(scope, held, "history")
            elif self._held.get(scope) is held:
                held.points = held.points[len(points[scope]) - 1 :] or [held.point]
                await self._follow_up(scope, held, revision, seen)
        for scope, (feed, _) in fed.items():
            await self._lead(scope, feed, newest.get(scope, 0))

    @staticmethod
    def _compare(feed: Feed, heard: int, revision: int, seen: float) -> None:
        if revision == heard:
            feed.take(heard, changelog.Tail(heard, (), complete=True), seen)

    async def _follow_up(self, scope: str, held: Held[S], revision: int, seen: float) -> None:
        held.newest = revision
        try:
            await self._catch_up(scope, held, revision)
            held.seen = seen
        except MeshError as error:
            self.tally.failures += 1
            _logger.warning("the changelog of %s cannot be read, and is tried again: %s", scope, error.reason)
        except Exception:
            # The other scopes are not to wait for this one.
            self.tally.failures += 1
            _logger.exception("the engine of %s could not follow the changelog, and will be loaded anew", scope)
        self._stepped = self._clock()

    def _is_unseen(self, held: Held[S]) -> bool:
        return self._clock() - held.seen > MOST_UNSEEN_SECONDS

    def _forget(self, scope: str, held: Held[S], reason: str) -> None:
        """Load a scope anew when it is next asked about."""
        if self._held.get(scope) is held:
            del self._held[scope]
            self._count(scope, reason)

    def _count(self, scope: str, reason: str) -> None:
        self.tally.forgotten[reason] += 1
        if reason == "history":
            _logger.warning("the database was put back: what was known of %s is given up", scope)

    async def _load(self, scope: str) -> S:
        begun = self._clock()
        loaded = await self._loader.load(scope)
        self.tally.loads += 1
        self.tally.load_seconds += self._clock() - begun
        return loaded

    async def _of(self, scope: str) -> Held[S]:
        held = self._held.get(scope)
        if held is None:
            # Whoever gives up waiting does not take the engine from the others.
            held = await asyncio.shield(self._loaded(scope))
        if scope in self._held:
            self._held.move_to_end(scope)
        return held

    def _loaded(self, scope: str) -> asyncio.Task[Held[S]]:
        loading = self._loading.get(scope)
        if loading is None:
            loading = self._loading[scope] = asyncio.create_task(self._begin(scope))
            loading.add_done_callback(lambda _: self._loading.pop(scope))
        return loading

    async def _begin(self, scope: str) -> Held[S]:
        async with self._loads:
            seen = self._clock()
            held = Held(await self._load(scope), seen)
            # What is loaded may be of a moment before a change of this process, which is not to be unseen by it.
            while (missed := self._missed.pop(scope, 0)) > held.present.revision:
                await self._catch_up(scope, held, missed)
            self._held[scope] = held
        self._make_room()
        return held

    def _make_room(self) -> None:
        weight = sum(each.weight for each in self._held.values())
        while len(self._held) > 1 and (weight > self._most_facts or len(self._held) > self._most_engines):
            _, forgotten = self._held.popitem(last=False)
            weight -= forgotten.weight
            self.tally.forgotten["room"] += 1

    async def _catch_up(self, scope: str, held: Held[S], revision: int) -> None:
        async with held.catching_up:
            try:
                while held.present.revision < revision:
                    tail = await self._read_on(scope, held.present.revision, held.point)
                    await _advance(held.present, tail.revisions)
                    if tail.complete:
                        held.present.apply(max(tail.newest, held.present.revision), ())
                        break
                held.moved()
            except changelog.ExpiredError:
                held.replace(await self._load(scope))
            except Unavailable:
                raise
            except Exception:
                # A change may have been taken over in part, or may never be: the rows are the way on.
                self._forget(scope, held, "fault")
                raise

    async def _past(self, scope: str, held: Held[S], revision: int) -> S:
        past = held.past
        try:
            if past is not None and past.revision <= revision:
                return await self._forward(scope, past, revision)
        except changelog.ExpiredError:
            past = held.past = None
        if past is None:
            past = await self._load(scope)
            held.past = past
            self._make_room()
        return await self._back(scope, past, revision)

    async def _forward(self, scope: str, past: S, revision: int) -> S:
        while past.revision < revision:
            tail = await self._tail(scope, past.revision)
            await _advance(past, [each for each in tail.revisions if each.number <= revision])
            if past.revision < revision and (tail.complete or tail.revisions[-1].number > revision):
                past.apply(revision, ())
        return past

    async def _back(self, scope: str, past: S, revision: int) -> S:
        while past.revision > revision:
            async with self._database.read(background(changelog.tenant_of(scope))) as connection:
                undone = await changelog.read_backwards(
                    connection, scope, revision, past.revision, _CHANGES_IN_ONE_READ
                )
            for each in undone:
                past.apply(each.number - 1, [change.undone for change in reversed(each.changes)])
                await asyncio.sleep(0)
            if not undone:
                past.apply(revision, ())
        return past

    async def _lead(self, scope: str, feed: Feed, revision: int) -> None:
        """Bring a feed up to a revision, where no engine of its scope was brought there before."""
        with suppress(changelog.ExpiredError):  # then it has ended
            while self._feeds.get(scope) is feed and feed.newest is not None and feed.newest < revision:
                await self._read_on(scope, feed.newest)

    async def _read_on(self, scope: str, after: int, held: changelog.Point | None = None) -> changelog.Tail:
        seen = self._clock()
        try:
            tail = await self._tail(scope, after, held)
        except changelog.ExpiredError:
            if (feed := self._feeds.get(scope)) is not None:
                feed.end()
            raise
        self._tell(scope, after, tail, seen)
        return tail

    def _tell(self, scope: str, after: int, tail: changelog.Tail, seen: float) -> None:
        if (feed := self._feeds.get(scope)) is not None and feed.newest is not None:
            feed.take(after, tail, seen)

    async def _tail(self, scope: str, after: int, held: changelog.Point | None = None) -> changelog.Tail:
        async with self._database.read(background(changelog.tenant_of(scope))) as connection:
            if held is not None and not await changelog.goes_through(connection, scope, held):
                self._count(scope, "history")
                if (feed := self._feeds.get(scope)) is not None:
                    feed.lose()
                raise changelog.ExpiredError(await changelog.newest(connection, scope))
            return await changelog.read(connection, scope, after, _CHANGES_IN_ONE_READ)


async def _advance(state: State, revisions: Sequence[Revision]) -> None:
    for each in revisions:
        # A change of this very process may have been taken over in the meantime.
        if each.number > state.revision:
            state.apply(each.number, each.changes, each.time)
            await asyncio.sleep(0)
