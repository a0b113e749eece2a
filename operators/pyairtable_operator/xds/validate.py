"""What gRPC's xDS clients refuse, drop in silence or cut down: said in words before anything is served.

One resource that C-core refuses is one service that nobody can call, and its owner would learn of it from a client's
log. So a service that breaks a rule is left out, and its problems go to the status.
"""

import ipaddress
import re
from collections.abc import Iterator

from pyairtable_operator import model

MAX_ATTEMPTS = 5
"""C-core cuts retries down to this many attempts in silence."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UINT32_MAX = 2**32 - 1
_MAX_PORT = 65_535
_MAX_PERCENT = 100
# gRPC counts in milliseconds and refuses none of them; an hour is longer than anyone means.
_SHORTEST, _LONGEST = 0.001, 3_600.0


def problems(service: model.Service) -> tuple[model.Problem, ...]:
    """Return why gRPC's clients would not take the service as it is; nothing means that they will."""
    reasons = (
        *_names(service),
        *_endpoints(service.endpoints),
        *policy(service.policy),
    )
    name = service.canonical_name
    return tuple(model.Problem(name, reason, service=name) for reason in reasons)


def policy(source: model.TrafficPolicy) -> Iterator[str]:
    """Give the reasons against a policy, whatever service it is for."""
    yield from _limits(source)
    yield from _retries(source.retry)
    yield from _outliers(source.outlier_detection)


def _names(service: model.Service) -> Iterator[str]:
    labels = {"name": [service.name], "namespace": [service.namespace], "domain": service.domain.split(".")}
    for field, values in labels.items():
        if not all(_LABEL.fullmatch(value) for value in values):
            yield f"{field} {'.'.join(values)!r} is not made of DNS labels (a-z, 0-9 and -, at most 63 characters)"
    if not 0 < service.port <= _MAX_PORT:
        yield f"port {service.port} is not in 1 to {_MAX_PORT}"


def _endpoints(endpoints: tuple[model.Endpoint, ...]) -> Iterator[str]:
    seen = set()
    for endpoint in endpoints:
        where = f"endpoint {endpoint.address}:{endpoint.port}"
        try:
            key = (ipaddress.ip_address(endpoint.address), endpoint.port)
        except ValueError:
            yield f"{where} has no IP address (gRPC looks up no names here)"
            continue
        if key in seen:
            yield f"{where} is listed twice"
        seen.add(key)
        if not 0 < endpoint.port <= _MAX_PORT:
            yield f"{where} has a port outside 1 to {_MAX_PORT}"
        if endpoint.weight < 1:
            yield f"{where} has weight {endpoint.weight}; the least is 1"
    if sum(endpoint.weight for endpoint in endpoints) > _UINT32_MAX:
        yield f"the weights of all endpoints add up to more than {_UINT32_MAX}"


def _limits(policy: model.TrafficPolicy) -> Iterator[str]:
    if not 0 < policy.max_concurrent_requests <= _UINT32_MAX:
        yield f"max_concurrent_requests {policy.max_concurrent_requests} is not in 1 to {_UINT32_MAX}"


def _retries(retry: model.RetryPolicy) -> Iterator[str]:
    if not 1 <= retry.attempts <= MAX_ATTEMPTS:
        yield f"retry.attempts {retry.attempts} is not in 1 to {MAX_ATTEMPTS}"
    if not _SHORTEST <= retry.initial_backoff <= retry.max_backoff <= _LONGEST:
        yield f"retry: {_SHORTEST:g} <= initial_backoff <= max_backoff <= {_LONGEST:g} seconds does not hold"


def _outliers(detection: model.OutlierDetection | None) -> Iterator[str]:
    if detection is None:
        return
    for name in ("max_ejection_percent", "failure_percentage"):
        if not 0 <= getattr(detection, name) <= _MAX_PERCENT:
            yield f"outlier_detection.{name} is not in 0 to {_MAX_PERCENT}"
    for name in ("interval", "base_ejection_time"):
        if not _SHORTEST <= getattr(detection, name) <= _LONGEST:
            yield f"outlier_detection.{name} is not in {_SHORTEST:g} to {_LONGEST:g} seconds"
    for name in ("minimum_hosts", "request_volume"):
        if not 0 <= getattr(detection, name) <= _UINT32_MAX:
            yield f"outlier_detection.{name} is not in 0 to {_UINT32_MAX}"
