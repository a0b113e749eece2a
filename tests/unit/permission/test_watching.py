"""What a herd of replicas costs the server that they begin at."""

import asyncio
from collections.abc import Callable

from pyairtable_mesh.permission.domain import Fact
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.watching import Snapshot, Watching
from tests.unit.permission.conftest import Permissions
from tests.unit.permission.world import TENANT_ID


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
    authority = Authority(NaiveEvaluator(), permissions.engines)
    watching = Watching(permissions.database, loader, authority, permissions.tokens, asyncio.Event())
    streams = [watching.replica(TENANT_ID, "", (), 10.0) for _ in range(6)]
    begun = await asyncio.gather(*(anext(each) for each in streams))
    assert [each.revision for each in begun if isinstance(each, Snapshot) and each.data] == [2] * 6
    assert loader.most == 2
