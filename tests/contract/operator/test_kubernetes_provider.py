"""The provider against an API server in memory that goes away, forgets and refuses."""

import asyncio
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

from pyairtable_operator import app
from pyairtable_operator.inventory import Inventory
from pyairtable_operator.providers.kubernetes import provider
from pyairtable_operator.settings import Settings
from tests.contract.operator.cluster import addresses, following, names, namespace, service, slice_of, until
from tests.contract.operator.kubernetes_api import KubernetesApi

Object = dict[str, Any]

LISTED = ("namespaces", "services", "endpointslices", "trafficpolicies", "pods")


async def test_the_cluster_is_followed(api: KubernetesApi) -> None:
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        await api.put("endpointslices", slice_of("user", "10.0.0.1", "10.0.0.2"))
        await until("a new endpoint", lambda: addresses(inventory) == ["10.0.0.1", "10.0.0.2"])
        await api.put("services", service("audit"))
        await until("a new service", lambda: names(inventory) == ["audit", "user"])
        await api.put("services", service("user", port="web"))
        await until("a service that is gRPC no more", lambda: names(inventory) == ["audit"])
        await api.remove("services", "shop", "audit")
        await until("a deleted service", lambda: names(inventory) == [])


async def test_a_namespace_joins_and_leaves_by_its_label(api: KubernetesApi) -> None:
    await api.put("namespaces", namespace("elsewhere", enabled="false"))
    await api.put("services", service("user", home="elsewhere"))
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        await api.put("namespaces", namespace("elsewhere"))
        await until("the namespace that joined", lambda: names(inventory) == ["user", "user"])
        await api.put("namespaces", namespace("elsewhere", enabled="no"))
        await until("the namespace that left", lambda: names(inventory) == ["user"])


async def test_the_home_namespace_takes_part_without_a_label(api: KubernetesApi) -> None:
    await api.put("namespaces", {"metadata": {"name": "home"}})
    await api.put("services", service("greeter", home="home"))
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["greeter", "user"])
        await api.put("namespaces", namespace("home", enabled="false"))
        await api.put("namespaces", namespace("shop", enabled="false"))
        await until("the namespace that left", lambda: names(inventory) == ["greeter"])


@pytest.mark.parametrize("kind", LISTED)
async def test_nothing_is_known_before_all_is_listed(api: KubernetesApi, kind: str) -> None:
    api.hold(kind)
    async with following(api) as inventory:
        await until("what can be listed", lambda: api.listings == len(LISTED) - 1)
        assert inventory.mesh is None
        api.let_go()
        await until("the whole listing", lambda: addresses(inventory) == ["10.0.0.1"])


async def test_an_api_server_that_is_away_takes_nothing_with_it(api: KubernetesApi) -> None:
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        await api.stop()
        await until("the trouble", lambda: bool(inventory.troubles))
        assert {trouble.where for trouble in inventory.troubles} == {"kubernetes"}
        reason = "the API server can't be reached; the mesh stays as it is"
        assert all(trouble.reason.endswith(reason) for trouble in inventory.troubles)
        assert names(inventory) == ["user"]
        await api.put("endpointslices", slice_of("user", "10.0.0.9"))
        await api.start()
        await until("what happened meanwhile", lambda: addresses(inventory) == ["10.0.0.9"])
        await until("the end of the trouble", lambda: not inventory.troubles)


async def test_what_is_deleted_while_the_api_server_forgets_is_gone_too(api: KubernetesApi) -> None:
    """After 410 kopf lists anew, and keeps in its indexes what is not in the list."""
    await api.put("services", service("audit"))
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["audit", "user"])
        await api.stop()
        await api.remove("services", "shop", "audit")
        api.forget_changes()
        await api.start()
        await until("the deletion", lambda: names(inventory) == ["user"])


async def test_a_refusal_is_told_and_tried_again(api: KubernetesApi) -> None:
    api.refusing = True
    async with following(api) as inventory:
        await until("the trouble", lambda: bool(inventory.troubles))
        assert inventory.troubles[0].reason == "Services can't be watched, the log says why; the mesh stays as it is"
        assert inventory.mesh is None
        api.refusing = False
        await until("the listing", lambda: addresses(inventory) == ["10.0.0.1"])
        assert inventory.troubles == ()


async def test_an_object_that_makes_no_sense_harms_no_other(api: KubernetesApi) -> None:
    await api.put("services", {"metadata": {"name": "odd", "namespace": "shop"}, "spec": {"ports": [{"name": "grpc"}]}})
    async with following(api) as inventory:
        await until("the others", lambda: names(inventory) == ["user"])


async def test_two_replicas_follow_and_one_of_them_writes(api: KubernetesApi) -> None:
    await api.put(
        "services", {**service("away"), "spec": {"type": "ExternalName", "ports": [{"name": "grpc", "port": 1}]}}
    )
    async with following(api, "replica-1") as second:
        async with following(api, "replica-0") as first:
            await until("both", lambda: names(first) == names(second) == ["user"])
            await until("an Event", lambda: len(api.objects["events"]) == 1)
            holder = api.holder()
            await until("more renewals", lambda: api.writes.count("replace leases") > 5)
            assert api.holder() == holder
        await until("the one that is left", lambda: api.holder() == "replica-1")
    assert api.holder() == ""
    [event] = api.objects["events"].values()
    regarding = {
        "apiVersion": "v1",
        "kind": "Service",
        "namespace": "shop",
        "name": "away",
        "uid": "services-shop-away",
    }
    assert event["regarding"] == regarding
    assert event["note"] == "a Service of type ExternalName has no addresses, and gRPC looks up no names here"
    assert api.writes.count("create events") == 1


async def test_nothing_is_written_to_what_is_not_ours(api: KubernetesApi) -> None:
    async with following(api) as inventory:
        await until("the first listing", lambda: names(inventory) == ["user"])
        await api.put("endpointslices", slice_of("user", "10.0.0.2"))
        await until("a change", lambda: addresses(inventory) == ["10.0.0.2"])
        await until("renewals", lambda: len(api.writes) > 2)
    assert {write.split()[1] for write in api.writes} == {"leases"}


async def test_the_control_plane_finds_its_cluster_in_a_kubeconfig(
    api: KubernetesApi, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "config"
    found.write_text(yaml.safe_dump(kubeconfig(api.url)))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(found))
    async with app.chosen_provider(Settings(provider="kubernetes", lease_namespace="shop")) as chosen:
        assert isinstance(chosen, provider.KubernetesProvider)
        inventory = Inventory()
        running = asyncio.create_task(chosen.run(inventory))
        await until("the first listing", lambda: names(inventory) == ["user"])
        running.cancel()
        await asyncio.wait([running])


async def test_no_cluster_is_told_in_words(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(app.StartError, match=r"neither a service account nor a kubeconfig.*KUBECONFIG"):
        async with app.chosen_provider(Settings(provider="kubernetes")):
            pass


async def test_a_missing_extra_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kopf", None)
    for name in ("client", "provider", "watch"):
        monkeypatch.delitem(sys.modules, f"pyairtable_operator.providers.kubernetes.{name}", raising=False)
        monkeypatch.delattr(f"pyairtable_operator.providers.kubernetes.{name}", raising=False)
    with pytest.raises(app.StartError, match=r"kopf is missing: install pyairtable-operator\[kubernetes\]"):
        async with app.chosen_provider(Settings(provider="kubernetes")):
            pass


def test_a_control_plane_with_files_pays_nothing_for_it() -> None:
    said = "import sys, pyairtable_operator.app; print({'kopf', 'kubernetes', 'aiohttp'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout == "set()\n"


def kubeconfig(server: str) -> Object:
    return {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"token": "a-token"}}],
    }
