"""What Prometheus is told about the control plane: a look at the hub whenever it asks, and what the hub has counted."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pyairtable_operator import model
from pyairtable_operator.status.acknowledgements import tallies
from pyairtable_operator.xds.ads import Hub
from pyairtable_operator.xds.responses import Responses

_LOOK_SECONDS = 5.0
_PREFIX = "pyairtable_control_plane_"


def registry(hub: Hub) -> CollectorRegistry:
    """A registry for a hub of the running event loop."""
    made = CollectorRegistry()
    made.register(_Collector(hub, asyncio.get_running_loop()))
    return made


class _Collector(Collector):
    """Is asked in a thread of the exporter's, and looks in the event loop that the hub belongs to."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        self._loop = loop

    def describe(self) -> list[Metric]:
        """Nothing: names need not be known before the first look."""
        return []

    def collect(self) -> list[Metric]:
        """All metrics as they are now; TimeoutError when the event loop does not get to it."""
        return asyncio.run_coroutine_threadsafe(self._look(), self._loop).result(_LOOK_SECONDS)

    async def _look(self) -> list[Metric]:
        hub = self._hub
        return [
            GaugeMetricFamily(f"{_PREFIX}streams", "ADS streams that are open.", len(hub.clients)),
            CounterMetricFamily(f"{_PREFIX}snapshots", "Snapshots that were published.", hub.published),
            CounterMetricFamily(f"{_PREFIX}refusals", "Answers that clients refused (NACK).", hub.refused),
            *(_of_mesh(hub.responses, hub) if hub.responses is not None else ()),
        ]


def _of_mesh(responses: Responses, hub: Hub) -> Iterator[Metric]:
    snapshot = responses.snapshot
    problems = GaugeMetricFamily(f"{_PREFIX}problems", "What is left out of the mesh.", len(snapshot.problems))
    endpoints = GaugeMetricFamily(f"{_PREFIX}endpoints", "Endpoints by health.", labels=["mesh_service", "health"])
    for name, entry in snapshot.entries.items():
        found = Counter(endpoint.health for endpoint in entry.service.endpoints)
        for health in model.Health:
            endpoints.add_metric([name, health.value], found[health])
    clients = GaugeMetricFamily(
        f"{_PREFIX}clients", "Clients of a service by what they made of it.", labels=["mesh_service", "state"]
    )
    propagation = GaugeMetricFamily(
        f"{_PREFIX}propagation_seconds",
        "From the first client that was sent what is served now to the last that took it.",
        labels=["mesh_service"],
    )
    for name, tally in tallies(responses, hub.clients.values()).items():
        states = {"subscribed": tally.subscribed, "acknowledged": tally.acknowledged, "refused": tally.refused}
        for state, count in states.items():
            clients.add_metric([name, state], count)
        propagation.add_metric([name], max(0.0, tally.last_settled - tally.first_sent))
    yield from (problems, endpoints, clients, propagation)
