"""Clients that say who they are, held against the workload at the address that they connect from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator import model
from pyairtable_operator.workloads import Workloads
from pyairtable_operator.xds import ads, snapshot
from pyairtable_operator.xds.session import Limits
from pyairtable_operator.xds.snapshot import ResourceType
from tests.contract.operator import streams

SHOP = model.Service("user", "shop", 50051, (model.Endpoint("10.0.0.1", 1),))
EVIL = model.Service("user", "evil", 50051, (model.Endpoint("6.6.6.6", 1),))
HERE = "127.0.0.1"


class Plane:
    """An ADS server, and what it knows of who runs where."""

    def __init__(self, address: str) -> None:
        self.workloads = Workloads()
        self.hub = ads.Hub()
        self.address = address

    def runs_here(self, namespace: str) -> None:
        identity = f"spiffe://mesh.test/ns/{namespace}/sa/web"
        self.workloads.replace({HERE: model.Workload(namespace, "web-1", identity)})

    def stream(self) -> AbstractAsyncContextManager[Any]:
        return streams.stream(self.address)


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    made = Plane("")
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    limits = Limits()
    discovery = ads.AggregatedDiscovery(made.hub, limits=limits, max_streams=9, workloads=made.workloads)
    server.add_generic_rpc_handlers((discovery.handler(),))
    made.address = f"{HERE}:{server.add_insecure_port(f'{HERE}:0')}"
    await server.start()
    made.hub.publish(snapshot.build(model.Mesh((SHOP, EVIL))))
    yield made
    made.hub.close()
    await server.stop(1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ads, "_PROOF_SECONDS", 0.05)


def asking(node: str, *names: str, response_nonce: str = "") -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest(
        node=base_pb2.Node(id=node),
        type_url=ResourceType.LISTENER.value,
        resource_names=names,
        response_nonce=response_nonce,
    )


async def found(call: Any) -> dict[str, bool]:
    """Whether each name that was asked for stands for a service."""
    async with asyncio.timeout(5):
        answer = await call.read()
    listeners = [listener_pb2.Listener.FromString(packed.value) for packed in answer.resources]
    return {listener.name: b".svc." in listener.api_listener.api_listener.value for listener in listeners}


async def refusal(call: Any) -> str:
    async with asyncio.timeout(5):
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        words: str = await call.details()
    return words


async def test_a_short_name_resolves_in_the_namespace_that_is_proven(plane: Plane) -> None:
    plane.runs_here("shop")
    async with plane.stream() as call:
        await call.write(asking("shop/web/web-1", "user"))
        assert await found(call) == {"user": True}
        [client] = plane.hub.clients.values()
        assert client.workload == model.Workload("shop", "web-1", "spiffe://mesh.test/ns/shop/sa/web")


async def test_a_short_name_of_another_namespace_can_not_be_had_by_claiming_it(plane: Plane) -> None:
    plane.runs_here("evil")
    async with plane.stream() as call:
        await call.write(asking("shop/web/web-1", "user"))
        words = await refusal(call)
    assert words == (
        "the node id claims namespace shop, and the pod at 127.0.0.1 is not of it: a node id is "
        "<namespace of the pod>/<service>/<instance>"
    )


async def test_nobody_becomes_another_on_the_way(plane: Plane) -> None:
    """A stream is whose its first request says: later ones name no other."""
    plane.runs_here("evil")
    async with plane.stream() as call:
        await call.write(asking("", EVIL.canonical_name))
        async with asyncio.timeout(5):
            answer = await call.read()
        await call.write(asking("shop/web/web-1", "user", response_nonce=answer.nonce))
        assert await found(call) == {"user": False}


@pytest.mark.usefixtures("impatient")
async def test_an_address_that_nobody_knows_proves_no_namespace(plane: Plane) -> None:
    plane.workloads.replace({})
    async with plane.stream() as call:
        await call.write(asking("shop/web/web-1", "user"))
        assert (await refusal(call)).startswith("no pod of the cluster is known at 127.0.0.1, so that namespace shop")


@pytest.mark.usefixtures("impatient")
async def test_who_claims_no_namespace_gets_canonical_names_alone(plane: Plane) -> None:
    plane.workloads.replace({})
    async with plane.stream() as call:
        await call.write(asking("anything", "user", SHOP.canonical_name))
        assert await found(call) == {"user": False, SHOP.canonical_name: True}


async def test_a_pod_may_call_before_its_address_is_known(plane: Plane) -> None:
    async with plane.stream() as call:
        await call.write(asking("shop/web/web-1", "user"))
        async with asyncio.timeout(5):
            while not any(client.session.subscriptions for client in plane.hub.clients.values()):
                await plane.hub.changed.wait()
        [client] = plane.hub.clients.values()
        plane.workloads.replace({})
        assert not client.admitted
        plane.runs_here("shop")
        assert await found(call) == {"user": True}


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:9", "10.0.0.1"),
        ("ipv6:%5Bfd00::1%5D:9", "fd00::1"),
        ("ipv6:[fd00::1]:9", "fd00::1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:9", "10.0.0.1"),
        ("unix:", ""),
    ],
)
def test_addresses_of_peers(peer: str, address: str) -> None:
    assert ads.address_of(peer) == address
