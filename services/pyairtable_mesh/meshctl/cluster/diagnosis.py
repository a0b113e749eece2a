"""What is wrong with a release that runs in a cluster, and what to do: pods, Lease, Services, tokens."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl.cluster import preflight, progress, releases, workloads
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl, Object
from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.findings import Finding
from pyairtable_mesh.meshctl.problems import Problem

OPERATOR = "pyairtable-operator"
LEFT_OUT = "LeftOutOfMesh"
"""Reason of the Events by which the operator tells the owner of a Service what is wrong with it."""
GRPC_PORT_LABEL = "mesh.pyairtable.io/grpc-port"
_GRPC_PROTOCOLS = frozenset({"grpc", "kubernetes.io/h2c"})
_OLD_LEASES = 4
"""Durations of a Lease after which it is called old: clocks here and there may differ."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Which namespaces take part, and the Services of theirs that are marked as gRPC, as ``namespace/name``."""

    selector: str
    namespaces: tuple[str, ...]
    services: frozenset[str]


async def examine(kubectl: Kubectl, place: Place, now: datetime) -> list[Finding]:
    """Every finding about a release in a cluster that answers, but for what its control plane knows."""
    return await _release(place) + await asyncio.to_thread(lambda: list(_of_cluster(kubectl, place, now)))


async def _release(place: Place) -> list[Finding]:
    try:
        helm, _ = await releases.opened(place)
        release = await helm.release()
    except Problem as problem:
        return [Finding("fail", "release", problem.told(), problem.next_step)]
    if release is None:
        step = f"meshctl install{place.options()}, or name another: --namespace, --release"
        return [Finding("fail", "release", f"{place.release} is not in {place.namespace}", step)]
    status = release["info"]["status"]
    words = f"{place.release}, revision {release['version']}, {status}"
    if status == "deployed":
        return [Finding("ok", "release", words)]
    if status.startswith(releases.PENDING):
        middle = releases.interrupted(place, status)
        return [Finding("fail", "release", middle.message, middle.next_step)]
    step = f"meshctl upgrade{place.options()}, or helm rollback {place.release} --namespace {place.namespace}"
    return [Finding("fail", "release", words, step)]


def _of_cluster(kubectl: Kubectl, place: Place, now: datetime) -> Iterator[Finding]:
    try:
        deployments = kubectl.items("deployments", "--namespace", place.namespace, "--selector", place.selector)
    except Problem as problem:
        yield Finding("fail", "workloads", problem.told(), problem.next_step)
        return
    looks: Sequence[Callable[[], Iterable[Finding]]] = (
        lambda: of_workloads(workloads.fetch(kubectl, place), place.namespace),
        lambda: of_lease(kubectl.find("lease", OPERATOR, "--namespace", place.namespace), now),
        lambda: of_membership(membership(kubectl, deployments)),
        lambda: of_events(
            kubectl.items("events", "--all-namespaces", f"--field-selector=reason={LEFT_OUT}"), place.namespace
        ),
        lambda: of_definitions(preflight.definitions(kubectl)),
        lambda: of_tokens(deployments, preflight.issuer_of(kubectl)),
    )
    for look in looks:
        try:
            yield from look()
        except Problem as problem:
            yield Finding("fail", "cluster", problem.told(), problem.next_step)


def of_workloads(found: Sequence[workloads.Workload], namespace: str) -> Iterator[Finding]:
    """Which workloads are ready, and what each pod that is not waits for."""
    if not found:
        yield Finding("fail", "workloads", "there are none", "meshctl status --cluster tells of the release")
    for workload in found:
        if workload.settled:
            yield Finding("ok", workload.title, f"{workload.ready}/{workload.desired} ready")
    yield from progress.verdict(found, namespace)


def of_lease(lease: Object | None, now: datetime) -> Iterator[Finding]:
    """Who writes status, and whether it still does."""
    spec = (lease or {}).get("spec", {})
    holder = spec.get("holderIdentity")
    if not holder:
        step = "if it stays so: kubectl logs deployment/pyairtable-operator"
        yield Finding("warn", "lease", "no replica of the control plane writes status and Events", step)
        return
    age = (now - datetime.fromisoformat(spec["renewTime"]).astimezone(UTC)).total_seconds()
    if age > _OLD_LEASES * spec.get("leaseDurationSeconds", 15):
        text = f"held by {holder}, and not renewed for {age:.0f} s"
        yield Finding("warn", "lease", text, f"kubectl logs {holder}; compare the clocks of the machines")
        return
    yield Finding("ok", "lease", f"held by {holder}")


def members(kubectl: Kubectl, place: Place) -> Membership:
    """See `membership`; of the release at a place. Raises `Problem`."""
    return membership(
        kubectl, kubectl.items("deployments", "--namespace", place.namespace, "--selector", place.selector)
    )


def membership(kubectl: Kubectl, deployments: Iterable[Object]) -> Membership:
    """What the operator of a release takes into the mesh: its own namespace, and what is labelled. Raises `Problem`."""
    operator = next((each for each in deployments if each["metadata"]["name"] == OPERATOR), None)
    if operator is None:
        return Membership("", (), frozenset())
    selector = environment_of(operator)["PYAIRTABLE_OPERATOR_NAMESPACE_SELECTOR"]
    labelled = {each["metadata"]["name"] for each in kubectl.items("namespaces", "--selector", selector)}
    namespaces = tuple(sorted({operator["metadata"]["namespace"], *labelled}))
    services = (kubectl.items("services", "--namespace", each) for each in namespaces)
    marked = (each["metadata"] for each in chain.from_iterable(services) if _is_grpc(each))
    return Membership(selector, namespaces, frozenset(f"{each['namespace']}/{each['name']}" for each in marked))


def of_membership(found: Membership) -> Iterator[Finding]:
    """Which namespaces and Services take part."""
    if not found.selector:
        step = "install the release with its control plane (operator.enabled)"
        yield Finding("warn", "mesh", "no control plane of this release says which namespaces take part", step)
    else:
        text = f"{len(found.services)} gRPC Services in {', '.join(found.namespaces)} ({found.selector})"
        yield Finding("ok", "mesh", text)


def of_registered(found: Membership, known: Iterable[mesh_pb2.Service]) -> Iterator[Finding]:
    """Services that are marked as gRPC, and that the control plane does not have."""
    registered = {f"{each.namespace}/{each.canonical_name.partition('.')[0]}" for each in known}
    missing = sorted(found.services - registered)
    for name in missing:
        step = f"kubectl describe service --namespace {name.replace('/', ' ')}"
        yield Finding("fail", name, "is marked as gRPC, and the control plane does not serve it", step)
    if found.services and not missing:
        yield Finding("ok", "registered", f"all {len(found.services)} gRPC Services")


def of_events(events: Iterable[Object], namespace: str) -> Iterator[Finding]:
    """What the operator has told the owners of Services."""
    for event in events:
        about = event["involvedObject"]
        where = f"{about.get('namespace', namespace)}/{about['name']}"
        text = f"left out of the mesh: {event.get('message') or event.get('note', '')}"
        yield Finding("warn", where, text, "correct what it names; the Event goes an hour after")


def of_definitions(names: Sequence[str]) -> Iterator[Finding]:
    """Whether policies can be objects."""
    text = ", ".join(names) if names else "none of mesh.pyairtable.io: policies cannot be objects here"
    yield Finding("ok", "definitions", text)


def of_tokens(deployments: Iterable[Object], issuer: str) -> Iterator[Finding]:
    """Whether workloads' tokens are made for the audience, and by the issuer, that their peers ask for."""
    wrong = False
    for each in deployments:
        told, name = environment_of(each), f"deployment/{each['metadata']['name']}"
        domain, expected = told.get("PYAIRTABLE_TRUST_DOMAIN"), told.get("PYAIRTABLE_WORKLOAD_ISSUER")
        if domain is None:
            continue
        audiences = sorted(_audiences(each))
        if domain not in audiences:
            wrong = True
            text = f"its token is for {', '.join(audiences) or 'nobody'}, and peers take only {domain}"
            yield Finding("fail", name, text, "set trustDomain alike everywhere: meshctl upgrade --set trustDomain=...")
        if expected not in {None, issuer}:
            wrong = True
            text = f"takes tokens of {expected}, and the cluster's are issued by {issuer}"
            yield Finding("fail", name, text, f"meshctl upgrade --reuse-values --set workloads.issuer={issuer}")
    if not wrong:
        yield Finding("ok", "tokens", f"audience and issuer fit ({issuer})")


def environment_of(deployment: Object) -> dict[str, str]:
    """The plain variables of a Deployment's containers."""
    variables = (each for container in _pod(deployment)["containers"] for each in container.get("env", ()))
    return {each["name"]: each["value"] for each in variables if "value" in each}


def _audiences(deployment: Object) -> set[str]:
    sources = (
        source
        for volume in _pod(deployment).get("volumes", ())
        for source in volume.get("projected", {}).get("sources", ())
    )
    return {found for source in sources if (found := source.get("serviceAccountToken", {}).get("audience"))}


def _pod(deployment: Object) -> Any:
    return deployment["spec"]["template"]["spec"]


def _is_grpc(service: Object) -> bool:
    """As the operator decides it; a Service that names no port of its own is told by an Event."""
    if GRPC_PORT_LABEL in service["metadata"].get("labels", {}):
        return True
    return any(
        port.get("appProtocol") in _GRPC_PROTOCOLS or port.get("name", "").startswith("grpc")
        for port in service["spec"].get("ports", ())
    )
