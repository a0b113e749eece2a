"""The control plane with its Kubernetes provider on a real cluster, called by gRPC's own xDS clients.

It runs here with KUBECONFIG, not in a pod, and so do the backends: bare EndpointSlices point at this machine.
"""

import asyncio
import contextlib
import json
import signal
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from kubernetes.aio import client, config

from tests.e2e.control_planes import Object, Stage, Stream, kubectl, own_address, until

LABEL = "mesh.pyairtable.io/enabled=true"
CHANGES = 50


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """A namespace of the mesh, for one test."""
    async with new_namespace(LABEL) as name:
        yield name


@pytest.fixture
async def other() -> AsyncIterator[str]:
    """A namespace without the label."""
    async with new_namespace() as name:
        yield name


@contextlib.asynccontextmanager
async def new_namespace(*labels: str) -> AsyncIterator[str]:
    name = f"mesh-e2e-{uuid.uuid4().hex[:8]}"
    await kubectl("create", "namespace", name)
    try:
        for label in labels:
            await kubectl("label", "namespace", name, label)
        yield name
    finally:
        await kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """What a test starts ends with it."""
    async with contextlib.AsyncExitStack() as stack:
        yield Stage(stack)


async def apply(*objects: Object) -> None:
    await kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})


def service(namespace: str, name: str = "echo", **spec: Any) -> Object:
    ports = [{"name": "grpc", "port": 50051}]
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **spec}}


def slice_of(namespace: str, port: int, *endpoints: Object, name: str = "echo") -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-{port}", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": port}],
        "endpoints": list(endpoints or [at(own_address())]),
    }


def at(address: str, zone: str = "a", **conditions: bool) -> Object:
    return {"addresses": [address], "zone": zone, "conditions": conditions or {"ready": True}}


async def holder(namespace: str) -> str:
    found = await kubectl("get", "lease", "pyairtable-operator", "-n", namespace, "-o", "json", "--ignore-not-found")
    name: str = json.loads(found)["spec"]["holderIdentity"] if found else ""
    return name


async def test_a_service_is_found_and_its_endpoints_are_followed(stage: Stage, namespace: str) -> None:
    one, two = await stage.backend("one"), await stage.backend("two")
    await apply(service(namespace), slice_of(namespace, one))
    control_plane = await stage.control_plane(namespace)
    caller = await stage.client(control_plane, namespace)
    await caller.load("xds:///echo")
    await caller.until_answered_by("one", seconds=60)
    await apply(slice_of(namespace, two))
    assert await caller.until_answered_by("one", "two", seconds=60) == []
    draining = at(own_address(), ready=False, serving=True, terminating=True)
    await apply(slice_of(namespace, one, draining))
    assert await caller.until_answered_by("two", seconds=60) == []
    assert sorted((await control_plane.endpoints(namespace)).values()) == ["DRAINING", "HEALTHY"]
    await apply(slice_of(namespace, one, at(own_address(), ready=False)))

    async def unhealthy() -> bool:
        return "UNHEALTHY" in (await control_plane.endpoints(namespace)).values()

    await until("the endpoint that is not ready", unhealthy)
    assert (await caller.call(f"xds:///echo.{namespace}.svc.cluster.local:50051"))["answer"] == "two"
    assert (await caller.after(calls=100))["failures"] == []


async def test_a_namespace_without_the_label_is_not_used(stage: Stage, namespace: str, other: str) -> None:
    port = await stage.backend("one")
    await apply(service(namespace), slice_of(namespace, port), service(other), slice_of(other, port))
    control_plane = await stage.control_plane(namespace)
    name = f"services/echo.{other}.svc.cluster.local:50051"

    async def served() -> set[str]:
        return {found.name for found in await control_plane.services()}

    async def joined() -> bool:
        return name in await served()

    async def left() -> bool:
        return name not in await served()

    assert f"services/echo.{namespace}.svc.cluster.local:50051" in await served()
    caller = await stage.client(control_plane, other)
    for target in ("xds:///echo", f"xds:///echo.{other}.svc.cluster.local:50051"):
        assert (await caller.call(target))["code"] == "UNAVAILABLE"
    await kubectl("label", "namespace", other, LABEL)
    await until("the namespace that joined", joined)
    await kubectl("label", "namespace", other, "mesh.pyairtable.io/enabled-")
    await until("the namespace that left", left)


async def test_a_short_name_can_not_be_stolen_from_another_namespace(stage: Stage, namespace: str, other: str) -> None:
    own, thief = await stage.backend("own"), await stage.backend("thief")
    await kubectl("label", "namespace", other, LABEL)
    foreign = slice_of(other, thief)
    await apply(service(namespace), slice_of(namespace, own), service(other), foreign)
    control_plane = await stage.control_plane(namespace)
    at_home, away, nowhere = [await stage.client(control_plane, name) for name in (namespace, other, "elsewhere")]
    assert (await at_home.call("xds:///echo"))["answer"] == "own"
    assert (await away.call("xds:///echo"))["answer"] == "thief"
    assert (await nowhere.call("xds:///echo"))["code"] == "UNAVAILABLE"


async def test_an_api_server_that_is_away_takes_nothing_with_it(
    stage: Stage, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, two = await stage.backend("one"), await stage.backend("two")
    await apply(service(namespace), slice_of(namespace, one))
    relay = await stage.relay()
    await relay.connect()
    found = tmp_path_factory.mktemp("relay") / "kubeconfig"
    found.write_text(relay.kubeconfig())
    control_plane = await stage.control_plane(namespace, KUBECONFIG=str(found))
    caller = await stage.client(control_plane, namespace)
    await caller.load("xds:///echo")
    await caller.until_answered_by("one", seconds=60)
    await relay.cut()

    async def told() -> bool:
        return any(
            "can't be reached" in problem for each in await control_plane.services() for problem in each.problems
        )

    await until("the trouble", told)
    await apply(slice_of(namespace, two))
    late = await stage.client(control_plane, namespace)
    assert (await late.call("xds:///echo"))["answer"] == "one"
    await relay.connect()
    assert await caller.until_answered_by("one", "two", seconds=60) == []


async def test_all_replicas_serve_and_one_writes(stage: Stage, namespace: str) -> None:
    port = await stage.backend("one")
    away = service(namespace, "away", type="ExternalName", externalName="example.org")
    await apply(service(namespace), slice_of(namespace, port), away)
    replicas = {name: await stage.control_plane(namespace, name) for name in ("replica-0", "replica-1")}
    for replica in replicas.values():
        caller = await stage.client(replica, namespace)
        assert (await caller.call("xds:///echo"))["answer"] == "one"

    async def told() -> bool:
        found = await kubectl("describe", "service", "away", "-n", namespace)
        return "LeftOutOfMesh" in found and "a Service of type ExternalName has no addresses" in found

    await until("the Event that says what is wrong", told)
    first = await holder(namespace)
    replicas[first].process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await replicas[first].process.wait() == 0
    [second] = set(replicas) - {first}

    async def taken_over() -> bool:
        return await holder(namespace) == second

    await until("the other replica, which writes now", taken_over)


async def test_a_change_reaches_the_ads_stream_in_time(stage: Stage, namespace: str) -> None:
    """From the request that changes an EndpointSlice, its writing included, to the new endpoints on the stream."""
    await apply(service(namespace), slice_of(namespace, 1, at("10.1.0.0")))
    control_plane = await stage.control_plane(namespace)
    configuration = client.Configuration()
    await config.load_kube_config(client_configuration=configuration)
    async with (
        client.ApiClient(configuration) as api,
        grpc.aio.insecure_channel(f"127.0.0.1:{control_plane.port}") as channel,
    ):
        stream = Stream(channel, f"echo.{namespace}.svc.cluster.local:50051", namespace)
        await stream.until_endpoint("10.1.0.0")
        slices = client.DiscoveryV1Api(api)
        took = []
        for number in range(1, CHANGES + 1):
            address = f"10.1.0.{number}"
            patch = [{"op": "replace", "path": "/endpoints/0/addresses/0", "value": address}]
            seen = asyncio.create_task(stream.until_endpoint(address))
            begun = time.monotonic()
            await slices.patch_namespaced_endpoint_slice("echo-1", namespace, patch)
            took.append(await seen - begun)
    took.sort()
    sys.stdout.write(f"median {statistics.median(took) * 1e3:.1f} ms, slowest {took[-1] * 1e3:.1f} ms\n")
    assert statistics.median(took) < 0.15
