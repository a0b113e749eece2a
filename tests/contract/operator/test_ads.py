"""The ADS server over real gRPC streams, on one event loop."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator import model
from pyairtable_operator.xds import ads, snapshot
from pyairtable_operator.xds.session import Limits
from pyairtable_operator.xds.snapshot import ResourceType
from tests.contract.operator import streams

USER = model.Service("user", "default", 50051, (model.Endpoint("127.0.0.1", 1),))
DELTA = f"/{ads.SERVICE_NAME}/DeltaAggregatedResources"


def snapshot_of(*services: model.Service) -> snapshot.Snapshot:
    return snapshot.build(model.Mesh(services))


def with_ports(*ports: int) -> snapshot.Snapshot:
    endpoints = tuple(model.Endpoint("127.0.0.1", port) for port in ports)
    return snapshot_of(dataclasses.replace(USER, endpoints=endpoints))


@dataclasses.dataclass
class Plane:
    hub: ads.Hub
    address: str

    def stream(self, path: str = streams.STREAM) -> AbstractAsyncContextManager[Any]:
        return streams.stream(self.address, path)


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    hub = ads.Hub()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    discovery = ads.AggregatedDiscovery(hub, limits=Limits(names=3), max_streams=2)
    server.add_generic_rpc_handlers((discovery.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Plane(hub, f"127.0.0.1:{port}")
    hub.close()
    await server.stop(1)


def asking(*names: str, **fields: Any) -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest(
        node=base_pb2.Node(id="default/web/1"),
        type_url=ResourceType.ENDPOINTS.value,
        resource_names=names or [USER.canonical_name],
        **fields,
    )


def acknowledging(answer: discovery_pb2.DiscoveryResponse) -> discovery_pb2.DiscoveryRequest:
    return asking(version_info=answer.version_info, response_nonce=answer.nonce)


async def read(call: Any) -> discovery_pb2.DiscoveryResponse:
    async with asyncio.timeout(5):
        answer: discovery_pb2.DiscoveryResponse = await call.read()
    return answer


async def code_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(5):
        code: grpc.StatusCode = await call.code()
    return code


async def until_told(plane: Plane, what: str, condition: Any) -> None:
    try:
        async with asyncio.timeout(5):
            while not condition():
                await plane.hub.changed.wait()
    except TimeoutError:
        raise AssertionError(f"waited in vain: {what}") from None


async def test_an_answer_and_its_update(plane: Plane) -> None:
    plane.hub.publish(with_ports(1))
    async with plane.stream() as call:
        await call.write(asking())
        first = await read(call)
        await call.write(acknowledging(first))
        plane.hub.publish(with_ports(1, 2))
        second = await read(call)
        assert first.version_info != second.version_info
        assert first.nonce != second.nonce
        assert second.type_url == ResourceType.ENDPOINTS.value


async def test_an_acknowledgement_wakes_no_writer_when_there_is_no_news(plane: Plane) -> None:
    plane.hub.publish(with_ports(1))
    async with plane.stream() as call:
        await call.write(asking())
        answer = await read(call)
        [client] = plane.hub.clients.values()
        plane.hub.receive(client, acknowledging(answer))
        assert client.session.subscriptions[ResourceType.ENDPOINTS].acked_version == answer.version_info
        assert not client.wake.is_set()
        plane.hub.receive(client, asking("another"))
        assert client.wake.is_set()


async def test_who_takes_the_event_before_looking_misses_no_change(plane: Plane) -> None:
    changed = plane.hub.changed
    assert plane.hub.changed is changed
    plane.hub.publish(with_ports(1))
    assert changed.is_set()
    assert not plane.hub.changed.is_set()


async def test_what_is_only_told_about_a_service_wakes_no_client(plane: Plane) -> None:
    plane.hub.publish(with_ports(1))
    async with plane.stream() as call:
        await call.write(asking())
        await call.write(acknowledging(await read(call)))
        [client] = plane.hub.clients.values()
        acknowledged = client.session.subscriptions[ResourceType.ENDPOINTS]
        await until_told(plane, "the acknowledgement", lambda: acknowledged.acked_version)
        client.wake.clear()
        answers = plane.hub.responses
        named = model.Endpoint("127.0.0.1", 1, identity="spiffe://mesh.test/ns/default/sa/user")
        changed = plane.hub.changed
        plane.hub.publish(snapshot_of(dataclasses.replace(USER, endpoints=(named,))))
        assert plane.hub.responses is answers
        assert changed.is_set(), "whoever watches the status looks again"
        assert not client.wake.is_set()
        assert answers is not None
        [entry] = answers.snapshot.entries.values()
        assert entry.service.identities == (named.identity,)


async def test_no_answer_before_the_mesh_was_read(plane: Plane) -> None:
    async with plane.stream() as call:
        await call.write(asking())
        await until_told(plane, "the request", lambda: any(c.session.subscriptions for c in plane.hub.clients.values()))
        [client] = plane.hub.clients.values()
        assert client.session.subscriptions[ResourceType.ENDPOINTS].sent_version == ""
        plane.hub.publish(with_ports(1))
        assert (await read(call)).version_info


async def test_a_client_that_never_acknowledges_is_sent_one_answer(plane: Plane) -> None:
    plane.hub.publish(with_ports(1))
    async with plane.stream() as call:
        await call.write(asking())
        first = await read(call)
        for port in range(2, 50):
            plane.hub.publish(with_ports(port))
        last = with_ports(99)
        plane.hub.publish(last)
        await call.write(acknowledging(first))
        second = await read(call)
        assert [packed.value for packed in second.resources] == [
            last.find(ResourceType.ENDPOINTS, USER.canonical_name, "").packed.value
        ]


async def test_a_client_that_does_not_read_holds_up_no_other(plane: Plane) -> None:
    many = tuple(model.Endpoint(f"10.0.{host // 250}.{host % 250 + 1}", 1) for host in range(5_000))
    big = dataclasses.replace(USER, endpoints=many)
    plane.hub.publish(snapshot_of(big))
    async with plane.stream() as slow, plane.stream() as quick:
        await slow.write(asking())
        await quick.write(asking())
        answer = await read(quick)
        for count in range(4_000, 4_010):
            await quick.write(acknowledging(answer))
            plane.hub.publish(snapshot_of(dataclasses.replace(big, endpoints=many[:count])))
            answer = await read(quick)
        held = [len(c.session.subscriptions[ResourceType.ENDPOINTS].held) for c in plane.hub.clients.values()]
        assert held == [1, 1]


async def test_too_many_names_end_the_stream(plane: Plane) -> None:
    async with plane.stream() as call:
        await call.write(asking("a", "b", "c", "d"))
        assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call.details() == "more than 3 names of one type on one stream"
    await until_told(plane, "the client is forgotten", lambda: not plane.hub.clients)


async def test_too_many_streams_are_refused(plane: Plane) -> None:
    async with plane.stream(), plane.stream():
        await until_told(plane, "two clients", lambda: len(plane.hub.clients) == 2)
        async with plane.stream() as third:
            assert await code_of(third) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_delta_is_left_unimplemented(plane: Plane) -> None:
    async with plane.stream(DELTA) as call:
        assert await code_of(call) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("by", ["cancel", "half-close"])
async def test_a_client_that_leaves_is_forgotten(plane: Plane, by: str) -> None:
    async with plane.stream() as call:
        await call.write(asking())
        await until_told(plane, "the client", lambda: plane.hub.clients)
        if by == "cancel":
            call.cancel()
        else:
            await call.done_writing()
        await until_told(plane, "the client is forgotten", lambda: not plane.hub.clients)


async def test_streams_end_when_the_control_plane_stops(plane: Plane) -> None:
    plane.hub.publish(with_ports(1))
    async with plane.stream() as call:
        await call.write(asking())
        await read(call)
        plane.hub.close()
        assert await code_of(call) is grpc.StatusCode.UNAVAILABLE
