"""What Prometheus is told about the control plane, with sessions that are made by hand."""

import asyncio

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2
from prometheus_client import CollectorRegistry

from pyairtable_operator import model
from pyairtable_operator.status import metrics
from pyairtable_operator.xds import ads, snapshot
from pyairtable_operator.xds.session import Limits, Session
from pyairtable_operator.xds.snapshot import ResourceType

ENDPOINTS = (model.Endpoint("10.0.0.1", 1), model.Endpoint("10.0.0.2", 1, health=model.Health.DRAINING))
USER = model.Service("user", "shop", 50051, ENDPOINTS)
BAD = model.Service("bad", "shop", 1, (model.Endpoint("nowhere", 1),))


def ask(hub: ads.Hub, client: ads.Client, nonce: str = "", refuse: str = "") -> None:
    request = discovery_pb2.DiscoveryRequest(
        type_url=ResourceType.ENDPOINTS.value, resource_names=[USER.canonical_name], response_nonce=nonce
    )
    if refuse:
        request.error_detail.CopyFrom(status_pb2.Status(message=refuse))
    hub.receive(client, request)
    assert hub.responses is not None
    client.session.next_response(hub.responses)


async def told(registry: CollectorRegistry) -> dict[str, float]:
    families = await asyncio.to_thread(lambda: list(registry.collect()))
    return {
        ",".join([sample.name.removeprefix("pyairtable_control_plane_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


async def test_before_the_mesh_was_read_there_is_little_to_tell() -> None:
    assert await told(metrics.registry(ads.Hub())) == {"streams": 0, "snapshots_total": 0, "refusals_total": 0}


async def test_what_clients_make_of_what_is_served() -> None:
    hub = ads.Hub()
    registry = metrics.registry(hub)
    hub.publish(snapshot.build(model.Mesh((USER, BAD))))
    times = iter([10.0, 11.5, 10.5, 12.0])
    for refusal in "", "no such policy":
        client = hub.connect("ipv4:127.0.0.1:9", Session(Limits(), times.__next__))
        ask(hub, client)
        ask(hub, client, nonce="1", refuse=refusal)
    name = USER.canonical_name
    assert await told(registry) == {
        "streams": 2,
        "snapshots_total": 1,
        "refusals_total": 1,
        "problems": 1,
        f"endpoints,{name},HEALTHY": 1,
        f"endpoints,{name},DRAINING": 1,
        f"endpoints,{name},UNHEALTHY": 0,
        f"clients,{name},subscribed": 2,
        f"clients,{name},acknowledged": 1,
        f"clients,{name},refused": 1,
        f"propagation_seconds,{name}": 1.5,
    }
