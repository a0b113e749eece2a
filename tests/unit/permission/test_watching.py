"""What a herd of replicas costs the server that they begin at, and what they hear of a database that was put back."""

import asyncio
from collections.abc import Callable

import pytest

from pyairtable_mesh.permission.domain import Fact
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.watching import Beat, Snapshot, Watching
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import OutOfRange
from tests.unit.permission.conftest import Permissions, caller
from tests.unit.permission.restoring import overtaken
from tests.unit.permission.world import ALICE, BASE, BOB, TENANT_ID


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


async def test_snapshots_are_made_two_at_a_time(permissions: Permissions) -> None:
    loader = CountingLoader(permissions.database)
    authority = Authority(NaiveEvaluator())
    watching = Watching(permissions.database, loader, authority, permissions.tokens, asyncio.Event(), permissions.log)
    streams = [watching.replica(TENANT_ID, "", (), 10.0) for _ in range(6)]
    begun = await asyncio.gather(*(anext(each) for each in streams))
    assert [each.revision for each in begun if isinstance(each, Snapshot) and each.data] == [2] * 6
    assert loader.most == 2


async def test_a_stream_is_not_led_on_along_another_history(permissions: Permissions, database: Database) -> None:
    watching = Watching(
        database, Loader(database), Authority(NaiveEvaluator()), permissions.tokens, asyncio.Event(), permissions.log
    )
    restored = (await permissions.engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    replica = watching.replica(TENANT_ID, "", (), 10.0)
    watch = watching.watch(caller(ALICE), "", "", (), 10.0)
    snapshot, _, begun = await anext(replica), await anext(replica), await anext(watch)
    other = Permissions(database, permissions.clock)
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
