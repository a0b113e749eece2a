"""Which account is behind an endpoint, and at the address of a client."""

import json
from typing import Any

import pytest

from pyairtable_operator import model
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import pods
from tests.contract.operator.cluster import Object, following, names, pod, slice_of, until
from tests.contract.operator.kubernetes_api import KubernetesApi

WEB = "spiffe://mesh.test/ns/shop/sa/web"


def slice_with(target: Object | None, address: str = "10.0.0.1") -> Object:
    found = slice_of("user", address)
    found["endpoints"][0]["targetRef"] = target
    return found


def target(name: str = "user-1", **fields: str) -> Object:
    return {"kind": "Pod", "name": name, "namespace": "shop", **fields}


def identities(inventory: Inventory) -> list[str]:
    return (
        [identity for service in inventory.mesh.services for identity in service.identities] if inventory.mesh else []
    )


async def test_an_identity_is_that_of_the_account_behind_the_endpoint(api: KubernetesApi) -> None:
    await api.put("endpointslices", slice_with(target()))
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        assert identities(inventory) == []
        await api.put("pods", pod("user-1", "10.0.0.1"))
        await until("the pod", lambda: identities(inventory) == [WEB])
        await api.put("pods", pod("user-1", "10.0.0.1", account="jobs"))
        await until("another account", lambda: identities(inventory) == ["spiffe://mesh.test/ns/shop/sa/jobs"])
        await api.remove("pods", "shop", "user-1")
        await until("the pod that is gone", lambda: identities(inventory) == [])


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        (None, "10.0.0.1"),
        (target("other"), "10.0.0.1"),
        (target(kind="Node"), "10.0.0.1"),
        (target(namespace="bank"), "10.0.0.1"),
        (target(), "6.6.6.6"),
    ],
    ids=["no pod", "an unknown pod", "no pod's name", "a pod of others", "another address than the pod's"],
)
async def test_an_endpoint_that_only_names_a_pod_has_no_identity(
    api: KubernetesApi, reference: Object | None, address: str
) -> None:
    for home in ("shop", "bank"):
        await api.put("pods", pod("user-1", "10.0.0.1", home=home))
    await api.put("endpointslices", slice_with(reference, address))
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        assert inventory.mesh is not None
        [service] = inventory.mesh.services
        assert [endpoint.address for endpoint in service.endpoints] == [address]
        assert service.identities == ()


async def test_an_address_proves_who_runs_there(api: KubernetesApi) -> None:
    await api.put("pods", pod("web-1", "10.0.0.7", "fd00::7"))
    await api.put("pods", pod("agent", "192.168.0.1", hostNetwork=True))
    async with following(api) as inventory:
        known = model.Workload("shop", "web-1", WEB)
        assert await inventory.workloads.at("10.0.0.7", 5) == known
        assert await inventory.workloads.at("fd00::7", 0) == known
        assert await inventory.workloads.at("192.168.0.1", 0) is None, "pods of a host share its address"
        await api.remove("pods", "shop", "web-1")
        await api.put("pods", pod("web-2", "10.0.0.8", home="bank"))
        assert await inventory.workloads.at("10.0.0.8", 5) == model.Workload(
            "bank", "web-2", "spiffe://mesh.test/ns/bank/sa/web"
        )
        assert await inventory.workloads.at("10.0.0.7", 0) is None


async def test_a_pod_that_went_while_the_api_server_forgot_proves_nothing(api: KubernetesApi) -> None:
    await api.put("pods", pod("web-1", "10.0.0.7"))
    async with following(api) as inventory:
        assert await inventory.workloads.at("10.0.0.7", 5) is not None
        await api.stop()
        await api.remove("pods", "shop", "web-1")
        await api.put("pods", pod("web-2", "10.0.0.8"))
        api.forget_changes()
        await api.start()
        assert await inventory.workloads.at("10.0.0.8", 10) is not None
        assert await inventory.workloads.at("10.0.0.7", 0) is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (pod("a", "10.0.0.1"), pods.Pod(("shop", "a"), "web", ("10.0.0.1",))),
        (pod("a"), pods.Pod(("shop", "a"), "web", ())),
        ({"metadata": {"name": "a", "namespace": "b"}, "spec": {}}, pods.Pod(("b", "a"), "default", ())),
        (pod("a", "1.2.3.4", hostNetwork=True), pods.Pod(("shop", "a"), "web", ("1.2.3.4",), on_host=True)),
    ],
    ids=["running", "without an address", "as little as there can be", "on its host"],
)
def test_what_a_pod_says(source: Any, expected: pods.Pod) -> None:
    assert pods.pod(json.loads(json.dumps(source))) == expected


def test_an_address_of_two_pods_proves_neither() -> None:
    several = [
        pods.Pod(("shop", "a"), "web", ("10.0.0.1", "fd00::1")),
        pods.Pod(("evil", "b"), "web", ("10.0.0.1",)),
        pods.Pod(("kube-system", "c"), "agent", ("10.0.0.2",), on_host=True),
        pods.Pod(("evil", "d"), "web", ("10.0.0.2",)),
    ]
    for given in (several, several[::-1]):
        assert set(pods.Identities("mesh.test").workloads(given)) == {"fd00::1"}


def test_a_mesh_that_did_not_change_is_the_same() -> None:
    known = {("shop", "user-1"): pods.Pod(("shop", "user-1"), "web", ("10.0.0.1",))}
    endpoint = model.Endpoint("10.0.0.1", 1, instance="user-1")
    mesh = model.Mesh((model.Service("user", "shop", 1, (endpoint,)),))
    named = pods.Identities("mesh.test")
    first = named.mesh(mesh, known)
    assert named.mesh(mesh, dict(known)).services[0] is first.services[0]
    assert first.services[0].identities == (WEB,)
