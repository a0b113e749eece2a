"""What is done to a release that serves: nobody who calls over xDS is to notice."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pyairtable_laptop import people
from tests.e2e.ha import conftest, loads
from tests.e2e.releases import SERVICES, Release, run
from tests.mesh.platform import until

CHECKS = re.compile(r'^rpc_server_call_duration_\w*count\{[^}]*CheckPermissions?"[^}]*\} (\S+)$', re.MULTILINE)
OURS = "app.kubernetes.io/part-of=pyairtable-mesh,app.kubernetes.io/name!=postgresql"
SINGLE = {"postgresql-0", "caller"}
"""Pods that have no second instance."""


@contextmanager
def unnoticed(caller: loads.Caller) -> Iterator[None]:
    """Calls of both services go on during the block, and none of them fails."""
    with caller.load() as users, caller.load(f"tenant:{people.TENANT}") as permissions:
        yield
    for load in (users, permissions):
        assert load.failures == []
        assert load.calls >= loads.CALLS


def served(release: Release, pod: str) -> int:
    """How many permission checks a pod has answered, by its own metrics."""
    script = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    metrics = release.kubectl("exec", pod, "--", "python", "-c", script)
    return int(sum(map(float, CHECKS.findall(metrics))))


async def test_calls_go_to_every_replica_of_permission(replicated: Release, caller: loads.Caller) -> None:
    pods = replicated.pods("permission")
    assert len(pods) == 3
    before = {pod: served(replicated, pod) for pod in pods}

    def all_served() -> bool:
        return all(served(replicated, pod) >= before[pod] + loads.CALLS for pod in pods)

    # kube-proxy balances connections, not calls: the caller's one channel would have all of its calls at one pod.
    with unnoticed(caller):
        await until("calls at every replica", all_served)


@pytest.mark.parametrize("service", ["permission", "user"])
def test_a_rolling_restart(replicated: Release, caller: loads.Caller, service: str) -> None:
    before = replicated.pods(service)
    with unnoticed(caller):
        replicated.kubectl("rollout", "restart", f"deployment/{service}")
        replicated.rolled(service)
    assert not set(before) & set(replicated.pods(service))


def test_an_upgrade(replicated: Release, caller: loads.Caller) -> None:
    before = {service: replicated.pods(service) for service in (*SERVICES, "pyairtable-operator")}
    with unnoticed(caller):
        replicated.install(*conftest.VALUES, "--set", "logLevel=WARNING,operator.logLevel=WARNING")
        for service in before:
            replicated.rolled(service)
    assert not any(set(pods) & set(replicated.pods(service)) for service, pods in before.items())


async def test_killing_the_control_plane(replicated: Release, caller: loads.Caller) -> None:
    with unnoticed(caller):
        await _kill(replicated, "pyairtable-operator", replicated.pods("pyairtable-operator"))


async def test_a_pod_that_is_killed(replicated: Release, caller: loads.Caller) -> None:
    with unnoticed(caller):
        await _kill(replicated, "permission", replicated.pods("permission")[:1])


def test_a_node_that_is_drained(replicated: Release, caller: loads.Caller) -> None:
    node = _node_to_drain(replicated)
    moved = _pods_on(replicated, node)
    with unnoticed(caller):
        try:
            drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector=" + OURS)
            run("kubectl", *drain, "--timeout=240s", seconds=250)
            for service in (*SERVICES, "pyairtable-operator"):
                replicated.rolled(service)
        finally:
            run("kubectl", "uncordon", node)
    assert moved
    assert not moved & _pods_on(replicated, node)


async def _kill(release: Release, workload: str, victims: Sequence[str]) -> None:
    """Kill pods, and wait until others are ready in their place."""
    number = len(release.pods(workload))
    release.kubectl("delete", "pods", *victims, "--grace-period=0", "--force")

    def replaced() -> bool:
        pods = release.objects(f"pods --selector=app.kubernetes.io/name={workload}")
        ready = {each["metadata"]["name"] for each in pods if _is_ready(each)}
        return len(ready) == number and not ready & set(victims)

    # Not `rolled`: a Deployment that has not heard of it yet calls itself rolled out.
    await until("pods in the place of those that were killed", replaced, seconds=150)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _node_to_drain(release: Release) -> str:
    """A node that neither the database nor the caller is on, for neither has a second instance."""
    nodes = {each["metadata"]["name"] for each in json.loads(run("kubectl", "get", "nodes", "--output=json"))["items"]}
    keep = {each["spec"]["nodeName"] for each in release.objects("pods") if each["metadata"]["name"] in SINGLE}
    assert nodes - keep, f"{len(nodes)} nodes, and what has one instance is on each: `make cluster` makes two nodes"
    return min(nodes - keep)


def _pods_on(release: Release, node: str) -> set[str]:
    pods = release.objects(f"pods --selector={OURS} --field-selector=spec.nodeName={node}")
    return {pod["metadata"]["name"] for pod in pods}
