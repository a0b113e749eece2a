"""The protocol of one stream, without a network: requests in, answers out."""

import dataclasses
import itertools

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from pyairtable_operator import model
from pyairtable_operator.xds import snapshot
from pyairtable_operator.xds.responses import Responses
from pyairtable_operator.xds.session import Limits, ProtocolError, Session, namespace_of
from pyairtable_operator.xds.snapshot import ResourceType

USER = model.Service("user", "default", 50051, (model.Endpoint("127.0.0.1", 1),))
AUDIT = model.Service("audit", "default", 50051, (model.Endpoint("127.0.0.1", 2),))
U, A = USER.canonical_name, AUDIT.canonical_name
BOTH = (USER, AUDIT)


def responses(*services: model.Service) -> Responses:
    return Responses(snapshot.build(model.Mesh(services)))


def moved(service: model.Service, port: int) -> model.Service:
    return dataclasses.replace(service, endpoints=(model.Endpoint("127.0.0.1", port),))


@dataclasses.dataclass
class Peer:
    """A client as C-core is one: it names all that it wants, and acknowledges or refuses each answer."""

    session: Session = dataclasses.field(default_factory=lambda: Session(Limits(), itertools.count().__next__))
    answers: dict[str, discovery_pb2.DiscoveryResponse] = dataclasses.field(default_factory=dict)

    def ask(self, kind: ResourceType, *names: str, version: str = "", error: str = "") -> None:
        last = self.answers.get(kind.value, discovery_pb2.DiscoveryResponse())
        request = discovery_pb2.DiscoveryRequest(
            node=base_pb2.Node(id="default/web/1"),
            type_url=kind.value,
            resource_names=names,
            response_nonce=last.nonce,
            version_info=version or ("" if error else last.version_info),
        )
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(code=3, message=error))
        self.session.receive(request)

    def read(self, available: Responses) -> discovery_pb2.DiscoveryResponse | None:
        message = self.session.next_response(available)
        if message is None:
            return None
        answer = discovery_pb2.DiscoveryResponse.FromString(message)
        self.answers[answer.type_url] = answer
        return answer


def names_in(answer: discovery_pb2.DiscoveryResponse | None, available: Responses) -> list[str]:
    assert answer is not None
    by_bytes = {
        available.snapshot.find(kind, name, "default").packed.value: name
        for kind in ResourceType
        for name in (U, A, "user", "audit", "nobody")
    }
    return [by_bytes[packed.value] for packed in answer.resources]


@pytest.mark.parametrize("kind", list(ResourceType))
def test_a_subscription_is_answered_once(kind: ResourceType) -> None:
    available, peer = responses(*BOTH), Peer()
    peer.ask(kind, U, A)
    assert names_in(peer.read(available), available) == [A, U]
    assert peer.read(available) is None, "an answer that is not acknowledged is not sent again"
    peer.ask(kind, U, A)
    assert peer.read(available) is None
    subscription = peer.session.subscriptions[kind]
    assert subscription.acked_version == subscription.sent_version == peer.answers[kind.value].version_info


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ResourceType.LISTENER, ["audit", "user"]),
        (ResourceType.CLUSTER, [A, U]),
        (ResourceType.ROUTE, [U]),
        (ResourceType.ENDPOINTS, [U]),
    ],
)
def test_a_change_sends_the_whole_set_or_what_changed(kind: ResourceType, expected: list[str]) -> None:
    wanted = ("user", "audit") if kind is ResourceType.LISTENER else (U, A)
    available, peer = responses(AUDIT), Peer()
    peer.ask(kind, *wanted)
    peer.read(available)
    peer.ask(kind, *wanted)
    policy = model.TrafficPolicy(max_concurrent_requests=9, retry=model.RetryPolicy(attempts=2))
    available = responses(dataclasses.replace(USER, policy=policy), AUDIT)
    assert names_in(peer.read(available), available) == expected


def test_a_change_of_something_else_sends_nothing() -> None:
    peer = Peer()
    peer.ask(ResourceType.ENDPOINTS, U)
    peer.read(responses(*BOTH))
    peer.ask(ResourceType.ENDPOINTS, U)
    assert peer.read(responses(USER, moved(AUDIT, 9))) is None


@pytest.mark.parametrize("kind", list(ResourceType))
def test_a_client_that_comes_back_with_its_last_version_is_sent_nothing(kind: ResourceType) -> None:
    available, before = responses(*BOTH), Peer()
    before.ask(kind, U, A)
    answer = before.read(available)
    assert answer is not None

    after = Peer()
    after.ask(kind, U, A, version=answer.version_info)
    assert after.read(responses(*BOTH)) is None
    subscription = after.session.subscriptions[kind]
    assert (subscription.acked_version, subscription.sent_version) == (answer.version_info, "")


def test_a_client_that_comes_back_to_other_content_is_sent_all_of_it() -> None:
    before, after = Peer(), Peer()
    before.ask(ResourceType.ENDPOINTS, U, A)
    answer = before.read(responses(*BOTH))
    assert answer is not None
    after.ask(ResourceType.ENDPOINTS, U, A, version=answer.version_info)
    available = responses(USER, moved(AUDIT, 9))
    assert names_in(after.read(available), available) == [A, U]


def test_a_change_after_coming_back_sends_what_changed() -> None:
    before, after = Peer(), Peer()
    before.ask(ResourceType.ENDPOINTS, U, A)
    answer = before.read(responses(*BOTH))
    assert answer is not None
    after.ask(ResourceType.ENDPOINTS, U, A, version=answer.version_info)
    assert after.read(responses(*BOTH)) is None
    available = responses(USER, moved(AUDIT, 9))
    assert names_in(after.read(available), available) == [A]


def test_a_refused_answer_is_not_sent_again_and_the_next_version_is_whole() -> None:
    peer = Peer()
    peer.ask(ResourceType.ENDPOINTS, U, A)
    good = peer.read(responses(*BOTH))
    peer.ask(ResourceType.ENDPOINTS, U, A)
    refused = peer.read(responses(USER, moved(AUDIT, 9)))
    assert good is not None
    assert refused is not None
    peer.ask(ResourceType.ENDPOINTS, U, A, version=good.version_info, error="duplicate address")
    assert peer.read(responses(USER, moved(AUDIT, 9))) is None

    subscription = peer.session.subscriptions[ResourceType.ENDPOINTS]
    assert subscription.acked_version == good.version_info
    assert subscription.rejection is not None
    assert (subscription.rejection.version, subscription.rejection.message) == (
        refused.version_info,
        "duplicate address",
    )

    available = responses(*BOTH)
    assert names_in(peer.read(available), available) == [A, U]
    peer.ask(ResourceType.ENDPOINTS, U, A)
    assert subscription.rejection is None


def test_a_name_that_is_added_is_sent_and_one_that_is_dropped_is_not_missed() -> None:
    available, peer = responses(*BOTH), Peer()
    peer.ask(ResourceType.ENDPOINTS, U)
    peer.read(available)
    peer.ask(ResourceType.ENDPOINTS, U, A)
    assert names_in(peer.read(available), available) == [A]
    peer.ask(ResourceType.ENDPOINTS, U)
    assert peer.read(available) is None
    peer.ask(ResourceType.ENDPOINTS, U, A)
    assert names_in(peer.read(available), available) == [A], "it was dropped, so it is sent again"


def test_names_dropped_and_taken_up_between_two_requests_are_sent_again() -> None:
    available, peer = responses(*BOTH), Peer()
    peer.ask(ResourceType.LISTENER, "user")
    peer.read(available)
    peer.ask(ResourceType.LISTENER, "user")
    assert peer.read(available) is None
    peer.ask(ResourceType.LISTENER, "user")
    assert names_in(peer.read(available), available) == ["user"]


def test_dropping_all_names_is_no_wildcard() -> None:
    available, peer = responses(*BOTH), Peer()
    peer.ask(ResourceType.LISTENER, "user")
    peer.read(available)
    peer.ask(ResourceType.LISTENER)
    assert peer.read(available) is None
    peer.ask(ResourceType.LISTENER, "user")
    assert names_in(peer.read(available), available) == ["user"]


def test_a_stale_nonce_acknowledges_nothing() -> None:
    peer = Peer()
    peer.ask(ResourceType.ENDPOINTS, U)
    first = peer.read(responses(*BOTH))
    peer.ask(ResourceType.ENDPOINTS, U)
    peer.read(responses(moved(USER, 9)))
    assert first is not None
    peer.answers[ResourceType.ENDPOINTS.value] = first
    peer.ask(ResourceType.ENDPOINTS, U, A)
    subscription = peer.session.subscriptions[ResourceType.ENDPOINTS]
    assert subscription.awaits_ack
    assert subscription.names == {U, A}, "its names count all the same"


def test_of_many_changes_a_busy_client_gets_the_last() -> None:
    peer = Peer()
    peer.ask(ResourceType.ENDPOINTS, U)
    peer.read(responses(USER))
    for port in range(10, 20):
        assert peer.read(responses(moved(USER, port))) is None, "the answer before is not acknowledged"
    peer.ask(ResourceType.ENDPOINTS, U)
    available = responses(moved(USER, 19))
    assert names_in(peer.read(available), available) == [U]


def test_clusters_and_endpoints_come_before_the_routes_to_them() -> None:
    available, peer = responses(*BOTH), Peer()
    for kind in reversed(ResourceType):
        peer.ask(kind, U)
    sent = []
    while (answer := peer.read(available)) is not None:
        sent.append(ResourceType(answer.type_url))
    assert sent == [ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.LISTENER, ResourceType.ROUTE]


def test_an_acknowledged_answer_leaves_nothing_to_look_for_until_its_type_changes() -> None:
    before, after, peer = responses(*BOTH), responses(moved(USER, 9), AUDIT), Peer()
    peer.ask(ResourceType.CLUSTER, U)
    peer.ask(ResourceType.ENDPOINTS, A)
    assert peer.session.may_need(before)
    while peer.read(before) is not None:
        assert peer.answers
    assert not peer.session.may_need(after), "what is not acknowledged waits"
    peer.ask(ResourceType.CLUSTER, U)
    assert not peer.session.may_need(after), "no cluster has changed"
    peer.ask(ResourceType.ENDPOINTS, A)
    assert not peer.session.may_need(before)
    assert peer.session.may_need(after), "some endpoints have changed"
    assert peer.read(after) is None, "they are of another service"
    assert not peer.session.may_need(after)


def test_a_change_that_is_taken_back_before_the_client_is_ready_sends_nothing() -> None:
    before, peer = responses(USER), Peer()
    peer.ask(ResourceType.ENDPOINTS, U)
    assert peer.read(before) is not None
    assert peer.read(responses(moved(USER, 9))) is None, "the first answer is not acknowledged"
    peer.ask(ResourceType.ENDPOINTS, U)
    assert peer.read(before) is None


def test_an_unknown_name_is_answered_at_once_and_followed_when_it_comes() -> None:
    available, peer = responses(), Peer()
    peer.ask(ResourceType.LISTENER, "user")
    assert names_in(peer.read(available), available) == ["user"]
    peer.ask(ResourceType.LISTENER, "user")
    available = responses(USER)
    assert names_in(peer.read(available), available) == ["user"]


def test_a_removed_service_leaves_nothing_dangling() -> None:
    peer = Peer()
    for kind in ResourceType:
        peer.ask(kind, U)
    while peer.read(responses(USER)) is not None:
        pass
    for kind in ResourceType:
        peer.ask(kind, U)
    available = responses()
    sent = []
    while (answer := peer.read(available)) is not None:
        assert names_in(answer, available) == [U]
        sent.append(ResourceType(answer.type_url))
    # The cluster of default policy is the same as that of no service.
    assert sent == [ResourceType.ENDPOINTS, ResourceType.LISTENER, ResourceType.ROUTE]


def test_a_type_that_is_not_served_is_ignored() -> None:
    session = Session(Limits())
    session.receive(discovery_pb2.DiscoveryRequest(type_url="type.googleapis.com/envoy.x.Secret"))
    assert session.subscriptions == {}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (discovery_pb2.DiscoveryRequest(resource_names=["a", "b", "c"]), "more than 2 names"),
        (discovery_pb2.DiscoveryRequest(resource_names=["x" * 9]), "more than 8 characters"),
        (discovery_pb2.DiscoveryRequest(node=base_pb2.Node(id="x" * 257)), "more than 256 characters"),
    ],
)
def test_limits(request_: discovery_pb2.DiscoveryRequest, words: str) -> None:
    request_.type_url = ResourceType.LISTENER.value
    with pytest.raises(ProtocolError, match=words):
        Session(Limits(names=2, name_chars=8)).receive(request_)


@pytest.mark.parametrize(
    ("node_id", "namespace"),
    [("shop/web/web-1", "shop"), ("shop/web", ""), ("shop//x", ""), ("", ""), ("a/b/c/d", ""), ("/b/c", "")],
)
def test_namespace_of_a_node(node_id: str, namespace: str) -> None:
    assert namespace_of(node_id) == namespace
