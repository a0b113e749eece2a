"""Joins the parts of the Kubernetes provider: a watch that is begun anew when it ends, and the Lease beside it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kubernetes.aio.client import ApiClient

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import client, lease, policies
from pyairtable_operator.providers.kubernetes.pods import Identities, Pod, PodWatch
from pyairtable_operator.providers.kubernetes.pods import Key as PodKey
from pyairtable_operator.providers.kubernetes.reviews import TokenReviews
from pyairtable_operator.providers.kubernetes.statuses import PolicyStatuses
from pyairtable_operator.providers.kubernetes.watch import Found, Scope, Watch

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_RELEASE_SECONDS = 2.0
_CALM_SECONDS = 0.005
_KINDS_SECONDS = 30.0
_COUNT_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Membership:
    """How a replica takes part in a cluster: what it follows, and who it is for the Lease."""

    selector: str
    home: str
    domain: str
    trust_domain: str
    lease_namespace: str
    lease_name: str
    identity: str


class KubernetesProvider:
    """Follows a cluster. While the API server is away, the last mesh stays and the trouble is told."""

    def __init__(self, api: ApiClient, membership: Membership) -> None:
        self._api = api
        self._membership = membership
        self._troubles: dict[str, model.Problem] = {}
        self._identities = Identities(membership.trust_domain)
        self._statuses = PolicyStatuses(api)
        self._told: tuple[policies.Verdict, ...] = ()
        self._told_at = 0.0
        self._found: Found | None = None
        self._pods: Mapping[PodKey, Pod] | None = None
        self._pods_are_new = False
        self._changed = asyncio.Event()
        self.reviews = TokenReviews(api, membership.trust_domain)

    async def run(self, inventory: Inventory) -> None:
        """Follow the cluster until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._again(inventory, "Services", self._watch))
            tasks.create_task(self._again(inventory, "Pods", PodWatch(self._api, self._take_pods).run))
            tasks.create_task(self._publish(inventory))
            tasks.create_task(self._lead(inventory))

    async def _again(self, inventory: Inventory, what: str, watch: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                await watch()
                _log.info("%s are listed anew: changes may have been missed", what)
            except client.ApiError as error:
                self._tell(inventory, what, f"{what} can't be watched: {error}; the mesh stays as it is")
            except Exception:  # noqa: BLE001 - whatever it is, what is served stays, and the next watch may fare better
                _log.exception("%s can't be watched", what)
                self._tell(inventory, what, f"{what} can't be watched, the log says why; the mesh stays as it is")
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _watch(self) -> None:
        membership, loop = self._membership, asyncio.get_running_loop()
        served = await self._serves_policies()
        scope = Scope(membership.selector, membership.home, membership.domain, with_policies=served)

        def deliver(found: Found) -> None:
            loop.call_soon_threadsafe(self._take, found)

        watch = Watch(self._api.configuration, scope, deliver)
        running = asyncio.ensure_future(asyncio.to_thread(watch.run))
        noticing = asyncio.ensure_future(self._until_policies(served=not served))
        try:
            await asyncio.wait([running, noticing], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            noticing.cancel()
            watch.stop()
            await asyncio.wait([running])

    async def _serves_policies(self) -> bool:
        return await client.serves(self._api, policies.GROUP, policies.VERSION, policies.PLURAL)

    async def _until_policies(self, *, served: bool) -> None:
        """Wait until the cluster's TrafficPolicy kind has come or gone, which no watch tells."""
        while True:
            await asyncio.sleep(_KINDS_SECONDS)
            with contextlib.suppress(client.ApiError):
                if await self._serves_policies() is served:
                    return

    def _take(self, found: Found) -> None:
        self._troubles.pop("Services", None)
        self._found = found
        self._changed.set()

    def _take_pods(self, pods: Mapping[PodKey, Pod]) -> None:
        self._troubles.pop("Pods", None)
        self._pods, self._pods_are_new = pods, True
        self._changed.set()

    async def _publish(self, inventory: Inventory) -> None:
        """Join both watches' newest states. Nothing is told before both have listed everything."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._found is not None and self._pods is not None:
                if self._pods_are_new:
                    self._pods_are_new = False
                    inventory.workloads.replace(self._identities.workloads(self._pods.values()))
                mesh = self._identities.mesh(self._found.mesh, self._pods)
                inventory.replace(mesh, tuple(self._troubles.values()))
            await asyncio.sleep(_CALM_SECONDS)

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
                        await self._tell_policies(inventory)
                    self._heal(inventory, "api")
                except client.ApiError as error:
                    self._tell(inventory, "api", f"{error}; the mesh stays as it is")
                await asyncio.sleep(lease.STEP_SECONDS)
        finally:
            with contextlib.suppress(client.ApiError, TimeoutError):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await election.release()

    async def _tell_policies(self, inventory: Inventory) -> None:
        """Write statuses: at once where a policy has changed, and now and then what clients have made of them."""
        verdicts = self._found.verdicts if self._found is not None else ()
        if verdicts != self._told or (verdicts and time.monotonic() > self._told_at + _COUNT_SECONDS):
            await self._statuses.tell(verdicts, inventory.receptions())
            self._told, self._told_at = verdicts, time.monotonic()

    def _tell(self, inventory: Inventory, source: str, reason: str) -> None:
        trouble = model.Problem("kubernetes", reason)
        if self._troubles.get(source) != trouble:
            _log.error("%s", trouble)
        self._troubles[source] = trouble
        inventory.keep(*self._troubles.values())

    def _heal(self, inventory: Inventory, source: str) -> None:
        if self._troubles.pop(source, None) is not None:
            inventory.keep(*self._troubles.values())
