"""The mesh as xDS resources at one moment, serialised once, with versions that are hashes of the content.

The same content has the same version in every process, so a client that comes back after a restart of the control
plane, or to another replica, is sent nothing that it already holds.
"""

import dataclasses
import enum
import hashlib
from collections.abc import Mapping

from google.protobuf import any_pb2, message

from pyairtable_operator import model
from pyairtable_operator.xds import translate, validate

_DIGEST_BYTES = 12


class ResourceType(enum.StrEnum):
    """The resources of a gRPC client, in the order in which changes are sent: make before break."""

    CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
    ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A resource, packed for the wire, and the digest of its bytes."""

    packed: any_pb2.Any
    digest: bytes

    @classmethod
    def of(cls, resource: message.Message) -> "Resource":
        """Pack and digest a resource."""
        packed = translate.pack(resource)
        return cls(packed, hashlib.blake2b(packed.value, digest_size=_DIGEST_BYTES).digest())


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A service and its resources; under LISTENER stands the listener of the canonical name."""

    service: model.Service
    resources: Mapping[ResourceType, Resource]
    short_listener: Resource
    version: str

    @classmethod
    def of(cls, service: model.Service) -> "Entry":
        """Translate and pack a valid service."""
        made = translate.translate(service)
        resources = {
            ResourceType.CLUSTER: Resource.of(made.cluster),
            ResourceType.ENDPOINTS: Resource.of(made.assignment),
            ResourceType.LISTENER: Resource.of(made.listener),
            ResourceType.ROUTE: Resource.of(made.route),
        }
        version = digest_of({kind.value: found for kind, found in resources.items()})
        return cls(service, resources, Resource.of(made.short_listener), version)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All services that can be served, by canonical name and by (namespace, short name), and what was left out.

    Where the version of a type is the same in two snapshots, every name finds the same resource of it in both.
    """

    entries: Mapping[str, Entry]
    shorts: Mapping[tuple[str, str], Entry]
    problems: tuple[model.Problem, ...]
    versions: Mapping[ResourceType, str]
    version: str

    def find(self, kind: ResourceType, name: str, namespace: str) -> Resource:
        """Return the resource of a name as a client in `namespace` sees it.

        A name that no service has gets an answer too, one that lets calls fail at once: clients wait 15 seconds for
        an answer that does not come, and a client may still hold a route to a service that was just removed.
        """
        entry = self.lookup(name, namespace)
        if entry is None:
            return _absent(kind, name)
        if name == entry.service.canonical_name:
            return entry.resources[kind]
        return entry.short_listener if kind is ResourceType.LISTENER else _absent(kind, name)

    def lookup(self, name: str, namespace: str) -> Entry | None:
        """Return what a canonical name, or a short one within its namespace, stands for."""
        return self.entries.get(name) or self.shorts.get((namespace, name))


def build(mesh: model.Mesh, previous: Snapshot | None = None) -> Snapshot:
    """Translate what changed since the previous snapshot and take over the rest.

    A service that gRPC's clients would refuse is left out, its problems are kept; the others are not touched.
    """
    known = previous.entries if previous is not None else {}
    entries: dict[str, Entry] = {}
    problems = list(mesh.problems)
    for service in mesh.services:
        name = service.canonical_name
        if name in entries:
            problems.append(model.Problem(name, "a second service of this name and port was left out", service=name))
        elif (entry := known.get(name)) is not None and entry.service == service:
            entries[name] = entry
        elif found := validate.problems(service):
            problems += found
        else:
            entries[name] = Entry.of(service)
    versions = _versions(entries)
    return Snapshot(entries, _shorts(entries), tuple(problems), versions, _hash("".join(versions.values()).encode()))


def digest_of(resources: Mapping[str, Resource]) -> str:
    """Return the version of a set of named resources."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name in sorted(resources):
        state.update(name.encode() + b"\0" + resources[name].digest)
    return state.hexdigest()


def _shorts(entries: Mapping[str, Entry]) -> dict[tuple[str, str], Entry]:
    # Of several ports of one service the short name means the lowest.
    by_port = sorted(entries.values(), key=lambda entry: entry.service.port, reverse=True)
    return {(entry.service.namespace, entry.service.name): entry for entry in by_port}


def _versions(entries: Mapping[str, Entry]) -> dict[ResourceType, str]:
    names = sorted(entries)
    text = "\n".join(names).encode()
    return {
        kind: _hash(b"\0".join((text, *(entries[name].resources[kind].digest for name in names))))
        for kind in ResourceType
    }


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def _absent(kind: ResourceType, name: str) -> Resource:
    match kind:
        case ResourceType.LISTENER:
            return Resource.of(translate.absent_listener(name))
        case ResourceType.ROUTE:
            return Resource.of(translate.absent_route(name))
        case ResourceType.CLUSTER:
            return Resource.of(translate.cluster(name, model.TrafficPolicy()))
        case ResourceType.ENDPOINTS:
            return Resource.of(translate.assignment(name, ()))
