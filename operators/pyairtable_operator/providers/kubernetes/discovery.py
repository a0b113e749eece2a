"""From Kubernetes objects to services of the mesh. Pure.

Each object becomes a fact by itself, once for each of its versions; facts are put together by namespace and name, so an
EndpointSlice only ever adds to a Service of its own namespace. Objects are as the API server sends them, in JSON.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pyairtable_operator import model
from pyairtable_operator.providers.kubernetes import policies

NAMESPACE_SELECTOR = "mesh.pyairtable.io/enabled=true"
GRPC_PORT_LABEL = "mesh.pyairtable.io/grpc-port"
WEIGHT_ANNOTATION = "mesh.pyairtable.io/weight"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"

_GRPC_PROTOCOLS = frozenset({"grpc", "kubernetes.io/h2c"})
_GRPC_PREFIX = "grpc"
_ADDRESS_TYPES = frozenset({"IPv4", "IPv6"})
_WEIGHT = re.compile(r"[1-9][0-9]{0,5}")
_PREFERENCE = (model.Health.HEALTHY, model.Health.DRAINING, model.Health.UNHEALTHY)

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a Service."""
Policies = Mapping[Key, Collection[policies.TrafficPolicy]]
"""Policies by the Service that they name."""

_NO_POLICIES: Policies = {}


@dataclasses.dataclass(frozen=True, slots=True)
class GrpcService:
    """A Service with gRPC ports, by name. `address_type` is the one that it prefers, empty when it does not say."""

    key: Key
    ports: Mapping[str, int]
    address_type: str = ""
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """The endpoints that one EndpointSlice has for each port's name."""

    key: Key
    address_type: str
    endpoints: Mapping[str, tuple[model.Endpoint, ...]]
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Made:
    service: GrpcService
    slices: tuple[Slice, ...]
    policies: tuple[policies.TrafficPolicy, ...]
    services: tuple[model.Service, ...]
    problems: tuple[model.Problem, ...]


def selects(selector: str, home: str, namespace: Object) -> bool:
    """Whether a Namespace takes part: it is the home, or has the label that a selector (``key=value``) asks for."""
    key, _, value = selector.partition("=")
    return namespace["metadata"]["name"] == home or _labels(namespace).get(key) == value


def grpc_service(source: Object) -> GrpcService | None:
    """Return what a Service says, None when no port of it is marked as gRPC."""
    spec, metadata = source["spec"], source["metadata"]
    marked = _labels(source).get(GRPC_PORT_LABEL, "")
    ports = {port.get("name", ""): port["port"] for port in spec.get("ports") or () if _is_grpc(port, marked)}
    problems = []
    if marked and not any(marked in (name, str(number)) for name, number in ports.items()):
        problems.append(f"label {GRPC_PORT_LABEL}: {marked!r} is neither name nor number of a TCP port of the Service")
    if ports and spec.get("type") == "ExternalName":
        problems.append("a Service of type ExternalName has no addresses, and gRPC looks up no names here")
        ports = {}
    if not ports and not problems:
        return None
    preferred = next(iter(spec.get("ipFamilies") or ()), "")
    return GrpcService((metadata["namespace"], metadata["name"]), ports, preferred, tuple(problems))


def endpoint_slice(source: Object) -> Slice | None:
    """Return what an EndpointSlice says, None when it belongs to no Service."""
    metadata = source["metadata"]
    service = _labels(source).get(SERVICE_NAME_LABEL)
    if not service:
        return None
    problems = []
    if source["addressType"] not in _ADDRESS_TYPES:
        problems.append(f"EndpointSlice {metadata['name']} has no IP addresses, and gRPC looks up no names here")
    weight = (metadata.get("annotations") or {}).get(WEIGHT_ANNOTATION, "1")
    if not _WEIGHT.fullmatch(weight):
        problems.append(f"EndpointSlice {metadata['name']}: {WEIGHT_ANNOTATION} is not a number from 1 to 999999")
        weight = "1"
    members = tuple(source.get("endpoints") or ()) if source["addressType"] in _ADDRESS_TYPES else ()
    endpoints = {
        port.get("name") or "": tuple(
            _endpoint(member, port["port"], int(weight), metadata["namespace"]) for member in members
        )
        for port in source.get("ports") or ()
        if port.get("port")
    }
    return Slice((metadata["namespace"], service), source["addressType"], endpoints, tuple(problems))


class Assembler:
    """Puts facts together. What did not change is taken over, so that a change costs what it touches."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._made: Mapping[Key, _Made] = {}

    def mesh(
        self, services: Iterable[GrpcService], slices: Mapping[Key, tuple[Slice, ...]], chosen: Policies = _NO_POLICIES
    ) -> model.Mesh:
        """Return the mesh of these Services, all of namespaces that take part, in order of namespace and name."""
        made: dict[Key, _Made] = {}
        for service in sorted(services, key=lambda found: found.key):
            members = slices.get(service.key, ())
            own = tuple(chosen.get(service.key, ()))
            before = self._made.get(service.key)
            if before is not None and (before.service, before.slices, before.policies) == (service, members, own):
                made[service.key] = before
            else:
                made[service.key] = _put_together(service, members, own, self._domain)
        self._made = made
        return model.Mesh(
            tuple(service for found in made.values() for service in found.services),
            tuple(problem for found in made.values() for problem in found.problems),
        )

    def names(self) -> dict[Key, tuple[str, ...]]:
        """Return the canonical names that each Service of the last mesh has, one for each port."""
        return {key: tuple(service.canonical_name for service in made.services) for key, made in self._made.items()}


def _put_together(
    service: GrpcService, slices: tuple[Slice, ...], found: tuple[policies.TrafficPolicy, ...], domain: str
) -> _Made:
    namespace, name = service.key
    usable = _of_one_family(service.address_type, slices)
    chosen = policies.in_force(found)
    policy = chosen.policy if chosen is not None and chosen.policy is not None else model.TrafficPolicy()
    services = tuple(
        model.Service(name, namespace, number, tuple(_endpoints(usable, port)), policy, domain)
        for port, number in service.ports.items()
    )
    canonical = services[0].canonical_name if services else ""
    reasons = [*service.problems, *(reason for part in slices for reason in part.problems)]
    reasons += [f"TrafficPolicy {each.name} is not in force: {each.problem}" for each in found if each.problem]
    problems = tuple(model.Problem(f"{namespace}/{name}", reason, canonical) for reason in reasons)
    return _Made(service, slices, found, services, problems)


def _of_one_family(preferred: str, slices: tuple[Slice, ...]) -> list[Slice]:
    """Of a dual-stack Service each pod stands in the slices of both families: it must not be counted twice."""
    families = {found.address_type for found in slices if found.endpoints}
    family = preferred if preferred in families else min(families & _ADDRESS_TYPES, default="")
    return [found for found in slices if found.address_type == family]


def _endpoints(slices: Iterable[Slice], port: str) -> Iterator[model.Endpoint]:
    """Give each address once, in its best state: an endpoint that moves between slices is in both for a moment."""
    found: dict[tuple[str, int], model.Endpoint] = {}
    for endpoint in (endpoint for part in slices for endpoint in part.endpoints.get(port, ())):
        key = (endpoint.address, endpoint.port)
        known = found.get(key)
        if known is None or _PREFERENCE.index(endpoint.health) < _PREFERENCE.index(known.health):
            found[key] = endpoint
    return (found[key] for key in sorted(found))


def _is_grpc(port: Object, marked: str) -> bool:
    if port.get("protocol", "TCP") != "TCP":
        return False
    name = port.get("name", "")
    by_label = marked != "" and marked in (name, str(port["port"]))
    return by_label or port.get("appProtocol") in _GRPC_PROTOCOLS or name.startswith(_GRPC_PREFIX)


def _endpoint(source: Object, port: int, weight: int, namespace: str) -> model.Endpoint:
    # The API promises at least one address, and that all of them are the same endpoint.
    address = source["addresses"][0]
    health = _health(source.get("conditions") or {})
    return model.Endpoint(address, port, source.get("zone") or "", weight, health, _pod_behind(source, namespace))


def _pod_behind(source: Object, namespace: str) -> str:
    target = source.get("targetRef") or {}
    at_home = target.get("kind") == "Pod" and target.get("namespace", namespace) == namespace
    return target.get("name", "") if at_home else ""


def _health(conditions: Object) -> model.Health:
    """Read an endpoint's conditions, each of which may be missing or null: then it is ready, serving, and not leaving.

    A Service with publishNotReadyAddresses calls every endpoint ready, those that are leaving too.
    """
    ready = conditions.get("ready") is not False
    serving = ready if conditions.get("serving") is None else conditions["serving"]
    if conditions.get("terminating"):
        return model.Health.DRAINING if serving else model.Health.UNHEALTHY
    return model.Health.HEALTHY if ready else model.Health.UNHEALTHY


def _labels(source: Object) -> Mapping[str, str]:
    return source["metadata"].get("labels") or {}
