"""Whether a cluster is as a release needs it, before anything in it is changed."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyairtable_mesh.meshctl.cluster import releases
from pyairtable_mesh.meshctl.cluster.kubectl import Kubectl
from pyairtable_mesh.meshctl.cluster.place import Place
from pyairtable_mesh.meshctl.findings import Finding
from pyairtable_mesh.meshctl.problems import Problem

OLDEST_KUBERNETES = (1, 30)
"""As the chart's kubeVersion says."""
ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The chart's `workloads.issuer`."""
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
GROUP = ".mesh.pyairtable.io"
_NAMESPACED = ("deployments.apps", "secrets", "services", "persistentvolumeclaims", "networkpolicies.networking.k8s.io")
_CLUSTER = ("clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io")
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a change needs: whether the namespace may be made, and whether the release is to be there already."""

    create_namespace: bool = False
    release_there: bool | None = None
    """None when it doesn't matter."""


async def examine(kubectl: Kubectl, place: Place, wanted: Wanted) -> list[Finding]:
    """Every finding; none but the first ones when the cluster does not answer."""
    findings = await asyncio.to_thread(reached, kubectl)
    if any(finding.state == "fail" for finding in findings):
        return findings
    findings += await asyncio.to_thread(lambda: list(_of_cluster(kubectl, place, wanted)))
    return findings + await _release(place, wanted)


def reached(kubectl: Kubectl) -> list[Finding]:
    """Which cluster is meant, and whether it answers with a version that is supported."""
    [context] = _probe("context", lambda: _context(kubectl))
    return [context] if context.state == "fail" else [context, *_probe("Kubernetes", lambda: _version(kubectl))]


def _of_cluster(kubectl: Kubectl, place: Place, wanted: Wanted) -> Iterator[Finding]:
    there = kubectl.find("namespace", place.namespace) is not None
    if there:
        yield Finding("ok", "namespace", place.namespace)
    elif wanted.create_namespace:
        yield Finding("ok", "namespace", f"{place.namespace} is not there yet, and is made")
    elif wanted.release_there is None:
        step = f"meshctl install{place.options()} makes it"
        yield Finding("warn", "namespace", f"{place.namespace} is not there", step)
    else:
        step = f"kubectl create namespace {place.namespace}, or name another: --namespace"
        yield Finding("fail", "namespace", f"{place.namespace} is not there", step)
    yield from _probe("rights", lambda: _rights(kubectl, place.namespace, new_namespace=not there))
    yield from _probe("storage", lambda: _storage(kubectl))
    yield from _probe("issuer", lambda: _issuer(kubectl))


async def _release(place: Place, wanted: Wanted) -> list[Finding]:
    try:
        helm, version = await releases.opened(place)
        release = await helm.release()
    except Problem as problem:
        return [Finding("fail", "helm", problem.told(), problem.next_step)]
    found = Finding("ok", "helm", version)
    if release is None:
        if wanted.release_there:
            step = f"meshctl install{place.options()}"
            return [found, Finding("fail", "release", f"{place.release} is not in {place.namespace}", step)]
        return [found, Finding("ok", "release", f"{place.release} is not in {place.namespace} yet")]
    status = release["info"]["status"]
    words = f"{place.release} is in {place.namespace}: revision {release['version']}, {status}"
    if status.startswith(releases.PENDING) or status == "uninstalling":
        middle = releases.interrupted(place, status)
        return [found, Finding("fail", "release", middle.message, middle.next_step)]
    if wanted.release_there is False:
        return [found, Finding("fail", "release", words, f"meshctl upgrade{place.options()}")]
    return [found, Finding("ok" if status == "deployed" else "warn", "release", words)]


def _probe(subject: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    try:
        yield look()
    except Problem as problem:
        yield Finding("fail", subject, problem.told(), problem.next_step)


def _context(kubectl: Kubectl) -> Finding:
    config = kubectl.read("config", "view", "--minify", "--output=json")
    server = config["clusters"][0]["cluster"]["server"]
    return Finding("ok", "context", f"{config['contexts'][0]['name']} at {server}")


def _version(kubectl: Kubectl) -> Finding:
    versions = kubectl.read("version", "--output=json")
    client, server = (versions[side]["gitVersion"] for side in ("clientVersion", "serverVersion"))
    words = f"{server}, kubectl {client}"
    here, there = _numbers(client), _numbers(server)
    if there < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        return Finding("fail", "Kubernetes", f"{words}: the cluster is too old", f"use a cluster of {oldest} or newer")
    if abs(here[1] - there[1]) > 1:
        step = f"install kubectl {there[0]}.{there[1]}"
        return Finding("warn", "Kubernetes", f"{words}: more than one minor version apart", step)
    return Finding("ok", "Kubernetes", words)


def _numbers(version: str) -> tuple[int, int]:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _rights(kubectl: Kubectl, namespace: str, *, new_namespace: bool) -> Finding:
    questions = [(resource, namespace) for resource in _NAMESPACED] + [(resource, "") for resource in _CLUSTER]
    questions += [("namespaces", "")] if new_namespace else []
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda question: kubectl.allowed("create", *question), questions)
        missing = [resource for (resource, _), allowed in zip(questions, answers, strict=True) if not allowed]
    if not missing:
        return Finding("ok", "rights", f"may create what a release consists of in {namespace}")
    step = "ask who administers the cluster for them, or use another --context"
    return Finding("fail", "rights", f"may not create {', '.join(missing)}", step)


def _storage(kubectl: Kubectl) -> Finding:
    classes = [each["metadata"] for each in kubectl.items("storageclasses")]
    default = [each["name"] for each in classes if each.get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    if default:
        return Finding("ok", "storage", f"default StorageClass {default[0]}")
    names: Sequence[str] = [each["name"] for each in classes]
    step = f"--set persistence.storageClass={names[0] if names else 'NAME'}, or --ha with a PostgreSQL of yours"
    return Finding("warn", "storage", f"no StorageClass is the default; there are: {', '.join(names) or 'none'}", step)


def _issuer(kubectl: Kubectl) -> Finding:
    issuer = issuer_of(kubectl)
    if issuer == ISSUER:
        return Finding("ok", "issuer", issuer)
    text = f"service accounts' tokens are issued by {issuer}, not by {ISSUER}"
    return Finding("warn", "issuer", text, f"--set workloads.issuer={issuer}, and the fitting workloads.jwksUrl")


def issuer_of(kubectl: Kubectl) -> str:
    """Who signs the service accounts' tokens. Raises `Problem`."""
    found: str = kubectl.read("get", "--raw=/.well-known/openid-configuration").get("issuer", "")
    return found


def definitions(kubectl: Kubectl) -> list[str]:
    """Names of the mesh's CustomResourceDefinitions."""
    names = (name.rpartition("/")[2] for name in kubectl.text("get", "crds", "--output=name").split())
    return sorted(name for name in names if name.endswith(GROUP))
