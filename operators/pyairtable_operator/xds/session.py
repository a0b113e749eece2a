"""One client's ADS stream as a state machine without I/O: requests go in, the next answer comes out.

State of the world, as gRPC's C-core speaks it (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol):
each request is the full subscription of its type. LDS and CDS answers carry the whole subscribed set, because a name
that is missing there means that it is gone; RDS and EDS answers carry what changed. The version is always that of
the whole set, so the last one that a client names on a new stream says whether it holds all of it.

Nothing is queued. At most one answer of each type is unacknowledged, and the next one is made from the newest snapshot
when it can be sent: a client that reads slowly or never acknowledges costs nothing but its own news.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator.xds.responses import Responses, View, with_nonce
from pyairtable_operator.xds.snapshot import Resource, ResourceType

_WHOLE_SET = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})
_KINDS = tuple(ResourceType)
_SERVED = {kind.value: kind for kind in _KINDS}
_MAX_NODE_CHARS = 256
_MAX_REJECTION_CHARS = 1_024


class ProtocolError(Exception):
    """The client asks for something outside of the bounds; the message is for the client."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much one stream may ask for."""

    names: int = 1_000
    name_chars: int = 512


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """An answer that the client refused: its version and the client's words."""

    version: str
    message: str


@dataclasses.dataclass(slots=True)
class Subscription:
    """What a client wants of one type, what it holds, and what it has said about the last answer.

    `version` is the one it was sent, or holds without being sent it on this stream. `seen` is the version of all there
    is of the type, when the subscription was last held against it: until that is another there is nothing to look for.
    Times are seconds since the epoch, 0 for never.
    """

    names: frozenset[str] = frozenset()
    held: Mapping[str, Resource] = dataclasses.field(default_factory=dict)
    claimed_version: str = ""
    version: str = ""
    seen: str = ""
    sent_version: str = ""
    acked_version: str = ""
    nonce: str = ""
    awaits_ack: bool = False
    sent_at: float = 0.0
    settled_at: float = 0.0
    rejection: Rejection | None = None

    def is_due(self, newest: str) -> bool:
        """Whether it may need an answer now that the version of all there is of its type is `newest`."""
        return self.seen != newest and not self.awaits_ack


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """Who a client says it is; `namespace` is where its short names resolve."""

    id: str = ""
    namespace: str = ""
    user_agent: str = ""
    region: str = ""
    zone: str = ""


class Session:
    """The subscriptions of one stream."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.node = Node()
        self.subscriptions: dict[ResourceType, Subscription] = {}
        self._limits = limits
        self._clock = clock
        self._nonces = itertools.count(1)
        self._met = False

    def receive(self, request: discovery_pb2.DiscoveryRequest) -> None:
        """Take in a request; one for a type that is not served gets no answer.

        Raises ProtocolError when it is outside of the limits.
        """
        names = self._checked(request.resource_names)
        if not self._met:
            # Only the first request says who it is: what was proven of a client then holds for the whole stream.
            self._met = True
            self.node = _meet(request.node)
        kind = _SERVED.get(request.type_url)
        if kind is None:
            return
        subscription = self.subscriptions.get(kind)
        if subscription is None:
            subscription = self.subscriptions[kind] = Subscription(claimed_version=request.version_info)
        elif request.response_nonce == subscription.nonce:
            self._settle(subscription, request, names)
        _subscribe(subscription, names)

    def may_need(self, responses: Responses) -> bool:
        """Whether `next_response` has anything to look at; it has not after most acknowledgements."""
        newest = responses.snapshot.versions
        return any(subscription.is_due(newest[kind]) for kind, subscription in self.subscriptions.items())

    def next_response(self, responses: Responses) -> bytes | None:
        """Return the next answer that this client needs, serialised, or None when it is up to date."""
        newest = responses.snapshot.versions
        for kind in _KINDS:
            subscription = self.subscriptions.get(kind)
            if subscription is not None and subscription.is_due(newest[kind]):
                answer = self._answer(kind, subscription, responses)
                if answer is not None:
                    return answer
        return None

    def _answer(self, kind: ResourceType, subscription: Subscription, responses: Responses) -> bytes | None:
        view = responses.view(kind, subscription.names, self.node.namespace)
        subscription.seen = responses.snapshot.versions[kind]
        claimed, subscription.claimed_version = subscription.claimed_version, ""
        if view.version == subscription.version:
            return None
        changed = frozenset() if view.version == claimed else _changed(view, subscription.held)
        if not changed:
            _hold(subscription, view)
            return None
        names = subscription.names if kind in _WHOLE_SET else changed
        subscription.held = view.resources
        subscription.version = subscription.sent_version = view.version
        subscription.nonce = str(next(self._nonces))
        subscription.awaits_ack = True
        subscription.sent_at = self._clock()
        return with_nonce(responses.body(kind, view, names), subscription.nonce)

    def _settle(
        self, subscription: Subscription, request: discovery_pb2.DiscoveryRequest, names: frozenset[str]
    ) -> None:
        if subscription.awaits_ack:
            subscription.awaits_ack = False
            subscription.settled_at = self._clock()
            if request.HasField("error_detail"):
                words = request.error_detail.message[:_MAX_REJECTION_CHARS]
                subscription.rejection = Rejection(subscription.sent_version, words)
                # What it kept of the answer is unknown: the next version goes out whole.
                subscription.held = {}
            else:
                subscription.rejection = None
                subscription.acked_version = subscription.sent_version
        elif names == subscription.names:
            # It answers nothing and changes nothing: names were dropped and taken up again between two requests, and
            # the client's cache of them is gone.
            subscription.held = {}
            subscription.version = subscription.seen = ""

    def _checked(self, names: Sequence[str]) -> frozenset[str]:
        if len(names) > self._limits.names:
            raise ProtocolError(f"more than {self._limits.names} names of one type on one stream")
        if max(map(len, names), default=0) > self._limits.name_chars:
            raise ProtocolError(f"a resource name has more than {self._limits.name_chars} characters")
        return frozenset(names)


def _meet(node: base_pb2.Node) -> Node:
    texts = (node.id, node.user_agent_name, node.user_agent_version, node.locality.region, node.locality.zone)
    if any(len(text) > _MAX_NODE_CHARS for text in texts):
        raise ProtocolError(f"a text in the node has more than {_MAX_NODE_CHARS} characters")
    return Node(
        id=node.id,
        namespace=namespace_of(node.id),
        user_agent=f"{node.user_agent_name} {node.user_agent_version}".strip(),
        region=node.locality.region,
        zone=node.locality.zone,
    )


def namespace_of(node_id: str) -> str:
    """Return the namespace out of `<namespace>/<service>/<instance>`, or nothing: then short names are unknown.

    The id is the client's word. That is good enough on loopback; elsewhere `ads` holds it against what is proven.
    """
    match node_id.split("/"):
        case [namespace, service, instance] if namespace and service and instance:
            return namespace
        case _:
            return ""


def _subscribe(subscription: Subscription, names: frozenset[str]) -> None:
    if names != subscription.names:
        subscription.names = names
        subscription.version = subscription.seen = ""
        subscription.held = {name: found for name, found in subscription.held.items() if name in names}


def _hold(subscription: Subscription, view: View) -> None:
    subscription.held = view.resources
    subscription.version = subscription.acked_version = view.version


def _changed(view: View, held: Mapping[str, Resource]) -> frozenset[str]:
    return frozenset(
        name
        for name, found in view.resources.items()
        if (before := held.get(name)) is None or before.digest != found.digest
    )
