"""Sends a call through a snapshot, on paper."""

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_operator import model
from pyairtable_operator.status import messages
from pyairtable_operator.xds.snapshot import Entry, Snapshot


def explain(snapshot: Snapshot, namespace: str, target: str, method: str) -> mesh_pb2.ExplainResponse:
    """Say where a call of a client in the namespace goes, and why."""
    response = mesh_pb2.ExplainResponse(snapshot_version=snapshot.version, authorized=True)
    entry = snapshot.lookup(target, namespace)
    if entry is None:
        _step(response, "name", "", _unknown(snapshot, namespace, target))
        response.summary = f"{method} goes nowhere and fails with UNAVAILABLE: {_unknown(snapshot, namespace, target)}."
        return response
    _way(response, entry, target)
    service = entry.service
    healthy = [found for found in service.endpoints if found.health is model.Health.HEALTHY]
    response.client_policy.CopyFrom(messages.client_policy(service.policy.retry))
    if healthy:
        destination = response.destinations.add(service=f"services/{service.canonical_name}", share=1.0)
        destination.endpoints.extend(messages.endpoint(found) for found in healthy)
        response.summary = f"{method} goes to one of the {len(healthy)} healthy endpoints of {service.canonical_name}."
    else:
        response.summary = f"{method} fails with UNAVAILABLE: {service.canonical_name} has no healthy endpoint."
    return response


def _way(response: mesh_pb2.ExplainResponse, entry: Entry, target: str) -> None:
    service = entry.service
    name, policy = service.canonical_name, service.policy
    short = f"the short name of {name} in namespace {service.namespace}"
    _step(response, "name", name, "it is the canonical name" if target == name else f"{target} is {short}")
    _step(response, "listener", target, f"it sends every call through the routes of {name}")
    _step(response, "route", f"routes/{name}/default", "the service has no route of its own: every call matches")
    picks = policy.load_balancing.value.lower().replace("_", " ")
    limit = f"at most {policy.max_concurrent_requests} calls of one client at once"
    _step(response, "cluster", name, f"clients pick endpoints by {picks}, {limit}")
    states = [found.health for found in service.endpoints]
    counts = ", ".join(f"{states.count(health)} {health.value.lower()}" for health in model.Health)
    _step(response, "endpoints", name, counts)
    _step(response, "authorization", "", "no AuthorizationPolicy is in force")


def _unknown(snapshot: Snapshot, namespace: str, target: str) -> str:
    for problem in snapshot.problems:
        at_home = problem.namespace == namespace and problem.service.partition(".")[0] == target
        if target == problem.service or at_home:
            return f"{problem.service} was left out of the mesh ({problem.reason})"
    if not namespace:
        return f"no service is called {target}, and the client's namespace is not known to look up short names"
    return f"no service in the mesh is called {target}, nor has namespace {namespace} one of that short name"


def _step(response: mesh_pb2.ExplainResponse, stage: str, found: str, reason: str) -> None:
    response.steps.add(stage=stage, found=found, reason=reason)
