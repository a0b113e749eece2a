"""A provider that follows the API server in memory, and objects for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kubernetes.aio import client

from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import provider
from tests.contract.operator.kubernetes_api import KubernetesApi

Object = dict[str, Any]


@contextlib.asynccontextmanager
async def following(api: KubernetesApi, identity: str = "replica-0") -> AsyncIterator[Inventory]:
    membership = provider.Membership(
        selector="mesh.pyairtable.io/enabled=true",
        home="home",
        domain="cluster.local",
        trust_domain="mesh.test",
        lease_namespace="shop",
        lease_name="operator",
        identity=identity,
    )
    inventory = Inventory()
    async with client.ApiClient(client.Configuration(host=api.url)) as connection:
        running = asyncio.create_task(provider.KubernetesProvider(connection, membership).run(inventory))
        try:
            yield inventory
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def namespace(name: str, enabled: str = "true") -> Object:
    return {"metadata": {"name": name, "labels": {"mesh.pyairtable.io/enabled": enabled}}}


def service(name: str, home: str = "shop", port: str = "grpc") -> Object:
    return {"metadata": {"name": name, "namespace": home}, "spec": {"ports": [{"name": port, "port": 50051}]}}


def slice_of(name: str, *addresses: str) -> Object:
    return {
        "metadata": {"name": f"{name}-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 50051}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def pod(name: str, *addresses: str, home: str = "shop", account: str = "web", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": home},
        "spec": {"serviceAccountName": account, **spec},
        "status": {"podIPs": [{"ip": address} for address in addresses]},
    }


def names(inventory: Inventory) -> list[str]:
    return [found.name for found in inventory.mesh.services] if inventory.mesh is not None else []


def addresses(inventory: Inventory) -> list[str]:
    services = inventory.mesh.services if inventory.mesh is not None else ()
    return [endpoint.address for found in services for endpoint in found.endpoints]


def policy(name: str, target: str = "user", *, home: str = "shop", created: str = "", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": home}
    if created:
        metadata["creationTimestamp"] = created
    reference = {"group": "", "kind": "Service", "name": target}
    return {"metadata": metadata, "spec": {"targetRef": reference, **spec}}


async def until(what: str, condition: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is awaited here wakes nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within 10 s: {what}")
