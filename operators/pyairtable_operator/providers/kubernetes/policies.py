"""From TrafficPolicy objects to policies of services, and what is to be said of each. Pure.

An object holds for the Service of its own namespace that it names. Of several for one Service the oldest good one
counts, by name where they are of one age (https://gateway-api.sigs.k8s.io/geps/gep-713/).
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pyairtable_operator import model
from pyairtable_operator.xds import validate

GROUP, VERSION, PLURAL = "mesh.pyairtable.io", "v1alpha1", "trafficpolicies"

# https://gateway-api.sigs.k8s.io/geps/gep-2257/
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_SECONDS = {"h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_LOAD_BALANCING = {
    "RoundRobin": model.LoadBalancing.ROUND_ROBIN,
    "LeastRequest": model.LoadBalancing.LEAST_REQUEST,
}

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a Service."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """One object: what it wants for which Service, or why that can't be. `status` is what it says now."""

    target: Key
    name: str
    created: str
    generation: int
    policy: model.TrafficPolicy | None
    problem: str = ""
    status: Object = dataclasses.field(default_factory=dict, compare=False)

    @property
    def age(self) -> tuple[str, str]:
        """What sorts the oldest first."""
        return (self.created, self.name)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an object: `reason` is of its condition Accepted, `services` are the canonical names it is for."""

    source: TrafficPolicy
    reason: str
    message: str
    services: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether it is in force."""
        return self.reason == "Accepted"


def traffic_policy(source: Object) -> TrafficPolicy:
    """Return what a TrafficPolicy says."""
    metadata, spec = source["metadata"], source.get("spec") or {}
    policy, problem = None, ""
    try:
        policy = _policy(spec)
        problem = "; ".join(validate.policy(policy))
    except (KeyError, TypeError, ValueError) as error:
        # The schema keeps such objects out; the one in the cluster may be older.
        problem = f"the object does not fit its schema, {GROUP}/{VERSION}: {type(error).__name__}"
    return TrafficPolicy(
        (metadata["namespace"], str((spec.get("targetRef") or {}).get("name", ""))),
        metadata["name"],
        metadata.get("creationTimestamp") or "",
        metadata.get("generation") or 0,
        None if problem else policy,
        problem,
        source.get("status") or {},
    )


def in_force(policies: Iterable[TrafficPolicy]) -> TrafficPolicy | None:
    """Return which of the policies for one Service counts, None when none is good."""
    return min((found for found in policies if found.policy is not None), key=lambda found: found.age, default=None)


def verdicts(
    policies: Mapping[Key, Collection[TrafficPolicy]], names: Mapping[Key, tuple[str, ...]]
) -> tuple[Verdict, ...]:
    """Return what became of policies, of namespaces that take part; `names` has the canonical names of each Service."""
    result = []
    for target, found in policies.items():
        winner = in_force(found)
        result += [_verdict(each, winner, names.get(target, ())) for each in found]
    return tuple(sorted(result, key=lambda each: (each.source.target[0], each.source.name)))


def _verdict(source: TrafficPolicy, winner: TrafficPolicy | None, services: tuple[str, ...]) -> Verdict:
    if source.problem:
        return Verdict(source, "Invalid", source.problem)
    if not services:
        return Verdict(source, "TargetNotFound", f"Service {source.target[1]} is not there, or has no gRPC port")
    if winner is not None and source != winner:
        return Verdict(source, "Conflicted", f"TrafficPolicy {winner.name} is older, and holds for {source.target[1]}")
    return Verdict(source, "Accepted", f"holds for {', '.join(services)}", services)


def _policy(spec: Object) -> model.TrafficPolicy:
    fields: dict[str, Any] = {}
    if "loadBalancing" in spec:
        fields["load_balancing"] = _LOAD_BALANCING[spec["loadBalancing"]]
    if "maxConcurrentRequests" in spec:
        fields["max_concurrent_requests"] = int(spec["maxConcurrentRequests"])
    if "retry" in spec:
        fields["retry"] = _retry(spec["retry"])
    if "outlierDetection" in spec:
        fields["outlier_detection"] = _outliers(spec["outlierDetection"])
    return model.TrafficPolicy(**fields)


def _retry(source: Object) -> model.RetryPolicy:
    fields: dict[str, Any] = {}
    if "codes" in source:
        fields["codes"] = tuple(model.RetryCode(code) for code in source["codes"])
    if "attempts" in source:
        fields["attempts"] = int(source["attempts"])
    fields |= _durations(source, initial_backoff="initialBackoff", max_backoff="maxBackoff")
    return model.RetryPolicy(**fields)


def _outliers(source: Object) -> model.OutlierDetection:
    numbers = {
        "max_ejection_percent": "maxEjectionPercent",
        "failure_percentage": "failurePercentage",
        "minimum_hosts": "minimumHosts",
        "request_volume": "requestVolume",
    }
    fields: dict[str, Any] = {field: int(source[name]) for field, name in numbers.items() if name in source}
    fields |= _durations(source, interval="interval", base_ejection_time="baseEjectionTime")
    return model.OutlierDetection(**fields)


def _durations(source: Object, **names: str) -> dict[str, float]:
    return {field: _seconds(source[name]) for field, name in names.items() if name in source}


def _seconds(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise ValueError("not a duration such as 250ms or 1m30s")
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
