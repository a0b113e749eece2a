"""The translator's output against an oracle: the rules of C-core's own resource parsers, read from its source."""

import hypothesis
import pytest
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from hypothesis import strategies

from pyairtable_operator import model
from pyairtable_operator.xds import translate, validate

addresses = strategies.ip_addresses().map(str)
endpoints = strategies.builds(
    model.Endpoint,
    address=addresses,
    port=strategies.integers(1, 65_535),
    zone=strategies.sampled_from(["", "a", "b"]),
    weight=strategies.integers(1, 1_000),
    health=strategies.sampled_from(model.Health),
)
services = strategies.builds(
    model.Service,
    name=strategies.just("user"),
    namespace=strategies.just("default"),
    port=strategies.just(50051),
    endpoints=strategies.lists(endpoints, max_size=8).map(tuple),
)


def refusals(assignment: endpoint_pb2.ClusterLoadAssignment) -> list[str]:
    """What C-core's EDS parser refuses or drops (src/core/xds/grpc/xds_endpoint_parser.cc)."""
    found = []
    seen_addresses, seen_localities = set(), set()
    for locality in assignment.endpoints:
        if not locality.HasField("locality"):
            found.append("no locality")
        if locality.load_balancing_weight.value < 1:
            found.append("locality without weight")
        key = (locality.priority, locality.locality.SerializeToString())
        if key in seen_localities:
            found.append("duplicate locality")
        seen_localities.add(key)
        for endpoint in locality.lb_endpoints:
            socket = endpoint.endpoint.address.socket_address
            if endpoint.load_balancing_weight.value < 1:
                found.append("endpoint weight")
            if (socket.address, socket.port_value) in seen_addresses:
                found.append("duplicate address")
            seen_addresses.add((socket.address, socket.port_value))
    priorities = {locality.priority for locality in assignment.endpoints}
    if priorities != set(range(len(priorities))):
        found.append("gap in priorities")
    return found


@hypothesis.given(services)
@hypothesis.settings(max_examples=60, deadline=None)
def test_what_passes_validation_is_accepted_by_clients(service: model.Service) -> None:
    hypothesis.assume(not validate.problems(service))
    assert refusals(translate.translate(service).assignment) == []


@hypothesis.given(services)
@hypothesis.settings(max_examples=30, deadline=None)
def test_order_of_endpoints_does_not_matter(service: model.Service) -> None:
    hypothesis.assume(not validate.problems(service))
    backwards = tuple(reversed(service.endpoints))
    assert translate.assignment("x", service.endpoints) == translate.assignment("x", backwards)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (model.Health.HEALTHY, [health_check_pb2.HealthStatus.HEALTHY]),
        (model.Health.DRAINING, [health_check_pb2.HealthStatus.DRAINING]),
        (model.Health.UNHEALTHY, []),
    ],
)
def test_health(health: model.Health, expected: list[int]) -> None:
    made = translate.assignment("x", (model.Endpoint("127.0.0.1", 1, health=health),))
    assert [found.health_status for locality in made.endpoints for found in locality.lb_endpoints] == expected


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (model.RetryPolicy(), ("unavailable", 3)),
        (model.RetryPolicy(codes=(model.RetryCode.DEADLINE_EXCEEDED, model.RetryCode.CANCELLED), attempts=2),
         ("deadline-exceeded,cancelled", 1)),
        (model.RetryPolicy(codes=tuple(model.RetryCode), attempts=5),
         ("cancelled,deadline-exceeded,internal,resource-exhausted,unavailable", 4)),
    ],
)  # fmt: skip
def test_retries(retry: model.RetryPolicy, expected: tuple[str, int]) -> None:
    action = translate.route("x", retry).virtual_hosts[0].routes[0].route
    assert (action.retry_policy.retry_on, action.retry_policy.num_retries.value) == expected


@pytest.mark.parametrize("retry", [model.RetryPolicy(attempts=1), model.RetryPolicy(codes=())])
def test_no_retries(retry: model.RetryPolicy) -> None:
    assert not translate.route("x", retry).virtual_hosts[0].routes[0].route.HasField("retry_policy")


def test_no_timeout_is_sent() -> None:
    route = translate.route("x", model.RetryPolicy()).virtual_hosts[0].routes[0].route
    assert not route.HasField("timeout")
    assert not route.HasField("max_stream_duration")
