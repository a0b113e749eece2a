"""Serialised answers, made once for each set of names and shared by every stream that asks for that set."""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import TypeVar

from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator.xds import snapshot as snapshots

_MAX_KEPT = 4_096

_NONCE = discovery_pb2.DiscoveryResponse.DESCRIPTOR.fields_by_name["nonce"]
# Length-delimited is wire type 2 (https://protobuf.dev/programming-guides/encoding/).
_NONCE_TAG = bytes([_NONCE.number << 3 | 2])
_MAX_NONCE_BYTES = 127

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a set of names of one type stands for at one moment, and the version of all of it."""

    version: str
    resources: Mapping[str, snapshots.Resource]


class Responses:
    """The answers that one snapshot gives.

    Clients choose the names, so what is kept has a bound: beyond it the oldest answer is made again when asked for.
    """

    def __init__(self, snapshot: snapshots.Snapshot) -> None:
        self.snapshot = snapshot
        self._views: dict[Hashable, View] = {}
        self._bodies: dict[Hashable, bytes] = {}

    def view(self, kind: snapshots.ResourceType, names: frozenset[str], namespace: str) -> View:
        """Return what the names stand for to a client in the namespace."""
        key = (kind, names, namespace if kind is snapshots.ResourceType.LISTENER else "")
        view = self._views.get(key)
        if view is None:
            found = {name: self.snapshot.find(kind, name, namespace) for name in sorted(names)}
            view = _keep(self._views, key, View(snapshots.digest_of(found), found))
        return view

    def body(self, kind: snapshots.ResourceType, view: View, names: frozenset[str]) -> bytes:
        """Return a DiscoveryResponse that carries these names out of the view, serialised, without its nonce."""
        key = (kind, view.version, names)
        body = self._bodies.get(key)
        if body is None:
            response = discovery_pb2.DiscoveryResponse(version_info=view.version, type_url=kind.value)
            response.resources.extend(view.resources[name].packed for name in sorted(names))
            body = _keep(self._bodies, key, response.SerializeToString(deterministic=True))
        return body


def with_nonce(body: bytes, nonce: str) -> bytes:
    """Append the nonce to a serialised DiscoveryResponse: the fields of a message may come in any order."""
    encoded = nonce.encode()
    if len(encoded) > _MAX_NONCE_BYTES:
        raise ValueError(f"a nonce has at most {_MAX_NONCE_BYTES} bytes")
    return b"".join((body, _NONCE_TAG, bytes([len(encoded)]), encoded))


def _keep(store: dict[Hashable, _T], key: Hashable, made: _T) -> _T:
    if len(store) >= _MAX_KEPT:
        del store[next(iter(store))]
    store[key] = made
    return made
