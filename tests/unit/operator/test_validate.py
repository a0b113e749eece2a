import dataclasses
from typing import Any

import pytest

from pyairtable_operator import model
from pyairtable_operator.xds import validate

GOOD = model.Service("user", "default", 50051, (model.Endpoint("127.0.0.1", 50061), model.Endpoint("::1", 50061)))


def with_endpoint(**fields: Any) -> model.Service:
    return dataclasses.replace(GOOD, endpoints=(dataclasses.replace(GOOD.endpoints[0], **fields),))


def with_policy(**fields: Any) -> model.Service:
    return dataclasses.replace(GOOD, policy=model.TrafficPolicy(**fields))


def test_a_good_service_has_no_problems() -> None:
    assert validate.problems(GOOD) == ()
    assert validate.problems(with_policy(outlier_detection=model.OutlierDetection())) == ()


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (dataclasses.replace(GOOD, name="User"), "name 'User' is not made of DNS labels"),
        (dataclasses.replace(GOOD, name=""), "name '' is not made of DNS labels"),
        (dataclasses.replace(GOOD, namespace="a.b"), "namespace 'a.b' is not made of DNS labels"),
        (dataclasses.replace(GOOD, domain="cluster..local"), "domain 'cluster..local' is not made of DNS labels"),
        (dataclasses.replace(GOOD, port=0), "port 0 is not in 1 to 65535"),
        (dataclasses.replace(GOOD, endpoints=GOOD.endpoints[:1] * 2), "endpoint 127.0.0.1:50061 is listed twice"),
        (with_endpoint(address="localhost"), "endpoint localhost:50061 has no IP address"),
        (with_endpoint(port=70_000), "endpoint 127.0.0.1:70000 has a port outside 1 to 65535"),
        (with_endpoint(port=-1), "endpoint 127.0.0.1:-1 has a port outside 1 to 65535"),
        (with_endpoint(weight=0), "endpoint 127.0.0.1:50061 has weight 0; the least is 1"),
        (with_endpoint(weight=2**32), "the weights of all endpoints add up to more than"),
        (with_policy(max_concurrent_requests=0), "max_concurrent_requests 0 is not in 1 to"),
        (with_policy(retry=model.RetryPolicy(attempts=6)), "retry.attempts 6 is not in 1 to 5"),
        (with_policy(retry=model.RetryPolicy(initial_backoff=0)), "retry: 0.001 <= initial_backoff <= max_backoff"),
        (with_policy(retry=model.RetryPolicy(initial_backoff=2, max_backoff=1)), "retry: 0.001 <= initial_backoff"),
        (
            with_policy(outlier_detection=model.OutlierDetection(failure_percentage=101)),
            "outlier_detection.failure_percentage is not in 0 to 100",
        ),
        (
            with_policy(outlier_detection=model.OutlierDetection(interval=0)),
            "outlier_detection.interval is not in 0.001 to 3600 seconds",
        ),
        (
            with_policy(outlier_detection=model.OutlierDetection(minimum_hosts=-1)),
            "outlier_detection.minimum_hosts is not in 0 to",
        ),
    ],
)
def test_what_clients_would_refuse(service: model.Service, words: str) -> None:
    [problem] = validate.problems(service)
    assert problem.reason.startswith(words)
    assert problem.service == problem.where == service.canonical_name


def test_addresses_are_compared_as_addresses() -> None:
    twice = (model.Endpoint("::1", 1), model.Endpoint("0:0:0:0:0:0:0:1", 1))
    [problem] = validate.problems(dataclasses.replace(GOOD, endpoints=twice))
    assert problem.reason == "endpoint 0:0:0:0:0:0:0:1:1 is listed twice"
