"""Joins the parts of the Kubernetes provider: a watch that is begun anew when it ends, and the Lease beside it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubernetes.aio.client import ApiClient

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import client, lease
from pyairtable_operator.providers.kubernetes.watch import Watch

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_RELEASE_SECONDS = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Membership:
    """How a replica takes part in a cluster: what it follows, and who it is for the Lease."""

    selector: str
    domain: str
    lease_namespace: str
    lease_name: str
    identity: str


class KubernetesProvider:
    """Follows a cluster. While the API server is away, the last mesh stays and the trouble is told."""

    def __init__(self, api: ApiClient, membership: Membership) -> None:
        self._api = api
        self._membership = membership
        self._troubles: dict[str, model.Problem] = {}

    async def run(self, inventory: Inventory) -> None:
        """Follow the cluster until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(inventory))
            tasks.create_task(self._lead(inventory))

    async def _follow(self, inventory: Inventory) -> None:
        loop = asyncio.get_running_loop()

        def deliver(mesh: model.Mesh) -> None:
            loop.call_soon_threadsafe(self._take, inventory, mesh)

        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._watch(deliver)
                _log.info("the cluster is listed anew: deletions may have been missed")
            except Exception:  # noqa: BLE001 - whatever it is, what is served stays, and the next watch may fare better
                _log.exception("the cluster can't be watched")
                self._tell(inventory, "watch", "Services can't be watched, the log says why; the mesh stays as it is")
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _watch(self, deliver: Callable[[model.Mesh], None]) -> None:
        watch = Watch(self._api.configuration, self._membership.selector, self._membership.domain, deliver)
        running = asyncio.ensure_future(asyncio.to_thread(watch.run))
        try:
            await asyncio.shield(running)
        finally:
            watch.stop()
            await asyncio.wait([running])

    def _take(self, inventory: Inventory, mesh: model.Mesh) -> None:
        self._troubles.pop("watch", None)
        inventory.replace(mesh, tuple(self._troubles.values()))

    async def _lead(self, inventory: Inventory) -> None:
        membership = self._membership
        store = client.LeaseStore(self._api, membership.lease_namespace, membership.lease_name)
        election = lease.Election(store, membership.identity, clock=time.monotonic)
        events = client.ProblemEvents(self._api, membership.identity)
        try:
            while True:
                try:
                    await election.step()
                    if election.leading and inventory.mesh is not None:
                        await events.tell(inventory.mesh.problems)
                    self._heal(inventory, "api")
                except client.ApiError as error:
                    self._tell(inventory, "api", f"{error}; the mesh stays as it is")
                await asyncio.sleep(lease.STEP_SECONDS)
        finally:
            with contextlib.suppress(client.ApiError, TimeoutError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await election.release()

    def _tell(self, inventory: Inventory, source: str, reason: str) -> None:
        trouble = model.Problem("kubernetes", reason)
        if self._troubles.get(source) != trouble:
            _log.error("%s", trouble)
        self._troubles[source] = trouble
        inventory.keep(*self._troubles.values())

    def _heal(self, inventory: Inventory, source: str) -> None:
        if self._troubles.pop(source, None) is not None:
            inventory.keep(*self._troubles.values())
