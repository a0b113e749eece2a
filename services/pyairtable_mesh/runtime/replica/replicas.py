"""The copies of a process: one for each tenant that is asked about, as long as it is, within bounds."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime.replica.copy import Copy
from pyairtable_mesh.runtime.replica.follower import Follower, Wanted

_BYTES_OF_A_FACT = 100
"""At most, in a snapshot: a name and its place in the maps."""
_BYTES_OF_NOTHING = 1 << 16
"""What a snapshot has besides: roles, and the lengths of its parts."""
_KEPT_SECONDS = 10.0
"""A copy that was asked within that time makes no room for others: more tenants than fit would only load in turns."""
_SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many tenants are held, how many facts and names of them all, and for how many seconds without a question."""

    tenants: int
    facts: int
    idle_seconds: float


class Replicas:
    """Starts a copy with the first question about its tenant, and ends it when nobody asks any more."""

    def __init__(
        self,
        stub: permission_pb2_grpc.PermissionServiceStub,
        wanted: Wanted,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stub = stub
        self.wanted = wanted
        self._bounds = bounds
        self._clock = clock
        self._held: OrderedDict[str, tuple[Follower, asyncio.Task[None]]] = OrderedDict()
        self._closed = False
        self._past_loads = self._past_interruptions = 0

    def of(self, tenant_id: str) -> Follower | None:
        """The tenant's follower, which may not hold anything yet; None where there is no room for one more."""
        found = self._held.get(tenant_id)
        if found is None:
            return self._begin(tenant_id)
        follower = found[0]
        follower.used = self._clock()
        self._held.move_to_end(tenant_id)
        return follower

    def followers(self) -> list[Follower]:
        """All of them, the least recently used first."""
        # A list first: metrics are collected in a thread of their own.
        return [follower for follower, _ in list(self._held.values())]

    @property
    def loads(self) -> int:
        """How many snapshots were loaded so far."""
        return self._past_loads + sum(each.copy.loads for each in self.followers())

    @property
    def interruptions(self) -> int:
        """How many streams were interrupted so far."""
        return self._past_interruptions + sum(each.interruptions for each in self.followers())

    async def run(self) -> None:
        """End what is idle and what does not fit any more, until cancelled; then end everything."""
        try:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                self.sweep()
        finally:
            self._closed = True
            for tenant_id in list(self._held):
                self._end(tenant_id)

    def sweep(self) -> None:
        """End what is idle, and make room where there is too much."""
        now = self._clock()
        for tenant_id, (follower, _) in list(self._held.items()):
            if now - follower.used > self._bounds.idle_seconds:
                self._end(tenant_id)
        while sum(each.copy.weight for each in self.followers()) > self._bounds.facts:
            heavy = [each for each in self.followers() if each.copy.weight]
            if len(heavy) > 1 and self._is_evictable(heavy[0], now):
                self._end(heavy[0].copy.tenant_id)
            else:
                # All are in use: the server answers for the one that came last, until nobody asks for it.
                self._refuse(max(heavy, key=lambda each: each.begun).copy.tenant_id)

    def _begin(self, tenant_id: str) -> Follower | None:
        if self._closed or not self._has_room():
            return None
        copy = Copy(tenant_id, partial(self._admit, tenant_id), self._clock)
        follower = Follower(copy, self._stub, self.wanted, self._clock)
        # In a context of its own: the stream is this process's, not the caller's whose question begins it.
        task = asyncio.get_running_loop().create_task(follower.run(), context=Context())
        self._held[tenant_id] = follower, task
        return follower

    def _admit(self, tenant_id: str, size: int) -> bool:
        """Whether a snapshot of so many bytes fits beside what is held or on its way; idle tenants make room."""
        while _facts_of(size) + self._taken(besides=tenant_id) > self._bounds.facts:
            now = self._clock()
            others = (each for each in self.followers() if each.copy.weight and each.copy.tenant_id != tenant_id)
            idle = next((each for each in others if self._is_evictable(each, now)), None)
            if idle is None:
                return False
            self._end(idle.copy.tenant_id)
        return True

    def _taken(self, *, besides: str) -> int:
        others = [each.copy for each in self.followers() if each.copy.tenant_id != besides]
        return sum(each.weight + _facts_of(each.loading) for each in others)

    def _has_room(self) -> bool:
        if len(self._held) < self._bounds.tenants:
            return True
        tenant_id, (oldest, _) = next(iter(self._held.items()))
        if not self._is_evictable(oldest, self._clock()):
            return False
        self._end(tenant_id)
        return True

    @staticmethod
    def _is_evictable(follower: Follower, now: float) -> bool:
        return now - follower.used > _KEPT_SECONDS

    def _refuse(self, tenant_id: str) -> None:
        follower, task = self._held[tenant_id]
        task.cancel()
        follower.refuse()

    def _end(self, tenant_id: str) -> None:
        follower, task = self._held.pop(tenant_id)
        task.cancel()
        self._past_loads += follower.copy.loads
        self._past_interruptions += follower.interruptions
        follower.copy.forget()


def _facts_of(size: int) -> int:
    """How many facts a snapshot of so many bytes has at least."""
    return max(0, size - _BYTES_OF_NOTHING) // _BYTES_OF_A_FACT
