"""What a herd of replicas costs the server where they begin and that they follow; and a database that was put back."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Changed, Fact, Revision
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.feeds import MOST_CHANGES, Feed
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.watching import Beat, Snapshot, Watching
from pyairtable_mesh.runtime.database import background
from pyairtable_mesh.runtime.errors import OutOfRange
from tests.contract.stores.permission.conftest import Permissions, caller, member
from tests.contract.stores.permission.restoring import overtaken
from tests.unit.permission.world import ALICE, BASE, BOB, TENANT_ID, ref


class CountingLoader(Loader):
    """Knows how many loads went on at once, at most."""

    at_once = most = 0

    async def load(self, tenant_id: str, wanted: Callable[[Fact], bool] | None = None) -> State:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            return await super().load(tenant_id, wanted)
        finally:
            self.at_once -= 1


def _watching(permissions: Permissions, loader: Loader) -> Watching:
    authority, leaving = Authority(NaiveEvaluator(), permissions.engines), asyncio.Event()
    tokens, log = permissions.tokens, permissions.log
    return Watching(permissions.database, permissions.engines, loader, authority, tokens, leaving, log)


async def test_snapshots_are_made_two_at_a_time(permissions: Permissions) -> None:
    loader = CountingLoader(permissions.database)
    watching = _watching(permissions, loader)
    streams = [watching.replica(TENANT_ID, "", (), 10.0) for _ in range(6)]
    begun = await asyncio.gather(*(anext(each) for each in streams))
    assert [each.revision for each in begun if isinstance(each, Snapshot) and each.data] == [2] * 6
    assert loader.most == 2


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often the changelog is read, by the scope."""
    counted = Counter[str]()
    read = changelog.read

    async def counting(connection: AsyncConnection, scope: str, after: int, most: int) -> changelog.Tail:
        counted[scope] += 1
        return await read(connection, scope, after, most)

    monkeypatch.setattr(changelog, "read", counting)
    return counted


@asynccontextmanager
async def _followers(permissions: Permissions, count: int) -> AsyncIterator[list[AsyncIterator[Snapshot | Beat]]]:
    """Streams that have their snapshot, and wait for what follows."""
    watching = _watching(permissions, Loader(permissions.database))
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(permissions.engines.follow())
        streams = [watching.replica(TENANT_ID, "", (), 60.0) for _ in range(count)]
        await asyncio.gather(*(anext(each) for each in streams))
        yield streams
        following.cancel()


async def _revisions(stream: AsyncIterator[Snapshot | Beat], last: int) -> list[int]:
    found: list[int] = []
    async for each in stream:
        assert isinstance(each, Beat)
        if each.changes is not None:
            found.append(each.revision)
        if each.revision >= last:
            break
    return found


@pytest.mark.parametrize("by_another", [False, True], ids=["of-this-process", "of-another"])
async def test_many_streams_cost_one_read_for_a_commit(
    permissions: Permissions, reads: Counter[str], by_another: bool
) -> None:
    writer = Permissions(permissions.database, permissions.clock) if by_another else permissions
    async with _followers(permissions, 20) as streams:
        first = [asyncio.create_task(_revisions(each, 3)) for each in streams]
        await writer.grant(ALICE, "viewer", BASE, ref("user", 1))
        assert await asyncio.gather(*first) == [[3]] * 20
        reads.clear()
        rest = [asyncio.create_task(_revisions(each, 8)) for each in streams]
        for number in range(2, 7):
            await writer.grant(ALICE, "viewer", BASE, ref("user", number))
        assert await asyncio.gather(*rest) == [[4, 5, 6, 7, 8]] * 20
        assert reads[TENANT_ID] <= (5 if by_another else 0)


async def test_a_stream_without_a_feed_that_was_seen_asks_the_database(
    permissions: Permissions, reads: Counter[str]
) -> None:
    await permissions.grant(ALICE, "viewer", BASE, ref("user", 1))
    with permissions.engines.following(TENANT_ID) as feed:
        assert feed.since(3) is None
        async with permissions.database.read(background(TENANT_ID)) as connection:
            feed.take(3, await changelog.read(connection, TENANT_ID, 3, 10), feed.clock())
        found = feed.since(3)
        assert found is not None
        assert (found.newest, list(found.revisions)) == (3, [])
        assert feed.since(2) is None
        feed.clock = lambda: time.monotonic() + 60
        assert feed.since(3) is None


async def test_a_feed_keeps_a_bounded_number_of_changes() -> None:
    feed = Feed(lambda: 0.0)
    feed.take(0, changelog.Tail(0, (), complete=True), 0.0)
    changes = [Changed(member(ref("group"), ALICE))] * (MOST_CHANGES // 2)
    for number in range(1, 6):
        revision = Revision(number, datetime.now(UTC), changes)
        feed.take(number - 1, changelog.Tail(number, [revision], complete=True), 0.0)
    assert feed.since(2) is None
    found = feed.since(3)
    assert found is not None
    assert [each.number for each in found.revisions] == [4, 5]
    feed.take(7, changelog.Tail(8, [Revision(8, datetime.now(UTC), changes)], complete=True), 0.0)
    assert feed.newest == 5, "what came between is not known"


@pytest.mark.usefixtures("quick")
async def test_a_stream_is_not_led_on_along_another_history(permissions: Permissions) -> None:
    watching = _watching(permissions, Loader(permissions.database))
    restored = (await permissions.engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    replica = watching.replica(TENANT_ID, "", (), 10.0)
    watch = watching.watch(caller(ALICE), "", "", (), 10.0)
    snapshot, _, begun = await anext(replica), await anext(replica), await anext(watch)
    other = Permissions(permissions.database, permissions.clock)
    await overtaken(permissions, other, restored, snapshot.revision + 1)
    async with asyncio.timeout(20):
        again = await anext(replica)
        with pytest.raises(OutOfRange) as lost:
            await anext(watch)
    assert isinstance(again, Snapshot)
    assert (again.revision, lost.value.reason) == (snapshot.revision + 1, "REVISION_EXPIRED")
    resumed = watching.replica(TENANT_ID, snapshot.token, (), 10.0)
    assert isinstance(await anext(resumed), Snapshot)
    with pytest.raises(OutOfRange):
        await anext(watching.watch(caller(ALICE), "", snapshot.token, (), 10.0))
    on = watching.replica(TENANT_ID, again.token, (), 10.0)
    assert isinstance(await anext(on), Beat)
    assert begun.revision == snapshot.revision
