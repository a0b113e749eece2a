"""From snapshots and sessions to the messages of `pyairtable.mesh.v1`."""

import ipaddress
import operator
from collections.abc import Iterable, Iterator

from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import code_pb2

from pyairtable.mesh.v1 import mesh_pb2, policy_pb2
from pyairtable_operator import model
from pyairtable_operator.status.acknowledgements import Tally
from pyairtable_operator.xds.ads import Client
from pyairtable_operator.xds.session import Subscription
from pyairtable_operator.xds.snapshot import Entry, ResourceType, Snapshot

TYPES = {
    ResourceType.LISTENER: mesh_pb2.RESOURCE_TYPE_LISTENER,
    ResourceType.ROUTE: mesh_pb2.RESOURCE_TYPE_ROUTE_CONFIGURATION,
    ResourceType.CLUSTER: mesh_pb2.RESOURCE_TYPE_CLUSTER,
    ResourceType.ENDPOINTS: mesh_pb2.RESOURCE_TYPE_ENDPOINTS,
}
_STATES = {
    model.Health.HEALTHY: mesh_pb2.ENDPOINT_STATE_HEALTHY,
    model.Health.DRAINING: mesh_pb2.ENDPOINT_STATE_DRAINING,
    model.Health.UNHEALTHY: mesh_pb2.ENDPOINT_STATE_UNHEALTHY,
}


def services(
    snapshot: Snapshot, tallies: dict[str, Tally], troubles: Iterable[model.Problem]
) -> Iterator[mesh_pb2.Service]:
    """Give every service, those that were left out of the snapshot too: they have problems and no endpoints.

    A problem of the document itself stands under its place, `services/mesh.yaml:3:1`, without a canonical name.
    """
    by_service: dict[str, list[str]] = {}
    for problem in (*snapshot.problems, *troubles):
        words = problem.reason if problem.where == problem.service else str(problem)
        by_service.setdefault(problem.service or problem.where, []).append(words)
    for name in sorted(snapshot.entries.keys() | by_service.keys()):
        entry, problems = snapshot.entries.get(name), by_service.get(name, [])
        if entry is None:
            yield _left_out(name, problems)
        else:
            yield service(entry, tallies.get(name), problems)


def _left_out(name: str, problems: Iterable[str]) -> mesh_pb2.Service:
    result = mesh_pb2.Service(name=f"services/{name}", problems=problems)
    match name.split(".", 3):
        case [short_name, namespace, "svc", _]:
            result.canonical_name, result.short_name, result.namespace = name, short_name, namespace
    return result


def service(entry: Entry, tally: Tally | None, problems: Iterable[str]) -> mesh_pb2.Service:
    """Return a served service."""
    source = entry.service
    in_order = sorted(source.endpoints, key=operator.attrgetter("address", "port"))
    return mesh_pb2.Service(
        name=f"services/{source.canonical_name}",
        canonical_name=source.canonical_name,
        short_name=source.name,
        namespace=source.namespace,
        port=source.port,
        endpoints=[endpoint(found) for found in in_order],
        identities=source.identities,
        version=entry.version,
        acknowledgement=acknowledgement(tally),
        problems=problems,
    )


def endpoint(source: model.Endpoint) -> mesh_pb2.Endpoint:
    """Return an endpoint of a valid service."""
    host = ipaddress.ip_address(source.address)
    return mesh_pb2.Endpoint(
        address=f"[{host}]:{source.port}" if host.version == 6 else f"{host}:{source.port}",  # noqa: PLR2004 - IPv6
        locality=mesh_pb2.Locality(zone=source.zone),
        weight=source.weight,
        state=_STATES[source.health],
        identity=source.identity,
        instance=source.instance,
    )


def acknowledgement(tally: Tally | None) -> mesh_pb2.Acknowledgement:
    """Return a tally, None for no clients; its propagation time is absent when nothing was sent."""
    if tally is None:
        return mesh_pb2.Acknowledgement()
    result = mesh_pb2.Acknowledgement(
        subscribed_clients=tally.subscribed,
        acknowledged_clients=tally.acknowledged,
        refused_clients=tally.refused,
        refusal=tally.refusal,
    )
    if tally.first_sent:
        result.propagation_time.CopyFrom(duration(max(0.0, tally.last_settled - tally.first_sent)))
    return result


def client(source: Client) -> mesh_pb2.Client:
    """Return a connected client."""
    node = source.session.node
    subscriptions = [subscription(kind, found) for kind, found in source.session.subscriptions.items()]
    return mesh_pb2.Client(
        name=f"clients/{source.id}",
        node_id=node.id,
        identity=source.workload.identity if source.workload is not None else "",
        namespace=node.namespace,
        peer_address=source.peer,
        user_agent=node.user_agent,
        locality=mesh_pb2.Locality(region=node.region, zone=node.zone),
        connect_time=timestamp(source.connected_at),
        subscriptions=sorted(subscriptions, key=operator.attrgetter("type")),
    )


def subscription(kind: ResourceType, source: Subscription) -> mesh_pb2.ClientSubscription:
    """Return what a client wants of one type. What it held before this stream is acknowledged without being sent."""
    result = mesh_pb2.ClientSubscription(
        type=TYPES[kind],
        resource_names=sorted(source.names),
        sent_version=source.sent_version,
        acknowledged_version=source.acked_version,
    )
    if source.rejection is not None:
        result.refused_version = source.rejection.version
        result.refusal = source.rejection.message
    if source.settled_at:
        result.response_time.CopyFrom(timestamp(source.settled_at))
    return result


def route(entry: Entry, tally: Tally | None) -> mesh_pb2.Route:
    """Return the default route of a service: every call goes to the service itself."""
    name = entry.service.canonical_name
    return mesh_pb2.Route(
        name=f"routes/{name}/default",
        service=f"services/{name}",
        match=policy_pb2.CallMatch(),
        destinations=[mesh_pb2.RouteDestination(service=f"services/{name}", weight=1)],
        acknowledgement=acknowledgement(tally),
    )


def client_policy(policy: model.RetryPolicy) -> policy_pb2.ClientPolicyRule:
    """Return what a client applies to every call of a service."""
    retry = policy_pb2.RetryPolicy(
        max_attempts=policy.attempts,
        codes=[code_pb2.Code.Value(code.value) for code in policy.codes],
        initial_backoff=duration(policy.initial_backoff),
        max_backoff=duration(policy.max_backoff),
    )
    return policy_pb2.ClientPolicyRule(match=policy_pb2.CallMatch(), retry=retry)


def duration(seconds: float) -> duration_pb2.Duration:
    """Return seconds as a Duration."""
    result = duration_pb2.Duration()
    result.FromNanoseconds(round(seconds * 1e9))
    return result


def timestamp(epoch_seconds: float) -> timestamp_pb2.Timestamp:
    """Return seconds since the epoch as a Timestamp."""
    result = timestamp_pb2.Timestamp()
    result.FromNanoseconds(round(epoch_seconds * 1e9))
    return result
