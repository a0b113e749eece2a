"""How the replicas are, for metrics and for the health report."""

import time
from collections.abc import Callable
from math import inf, isinf

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pyairtable_mesh.runtime.health import Dependency
from pyairtable_mesh.runtime.replica.authorizer import HERE, ReplicaAuthorizer
from pyairtable_mesh.runtime.replica.follower import Follower
from pyairtable_mesh.runtime.replica.replicas import Replicas

NAME = "permission-replica"
ANSWERS = "pyairtable.authorizer.answers"


class Report:
    """Reads the replicas of a process whenever somebody looks."""

    def __init__(
        self, replicas: Replicas, authorizer: ReplicaAuthorizer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._replicas = replicas
        self._authorizer = authorizer
        self._clock = clock

    def dependency(self) -> Dependency:
        """Unhealthy while a tenant's questions go to the server for want of a replica to be trusted; never required."""
        begun = time.perf_counter()
        followers = self._replicas.followers()
        stale = [each for each in followers if not each.refused and (each.is_skewed or not each.is_fresh)]
        detail = ""
        if stale:
            detail = (
                f"{len(stale)} of {len(followers)} tenants have no fresh replica, and the permission service is asked "
                "instead; see whether it is reachable, whether the two clocks agree, and this service's log"
            )
        return Dependency(NAME, not stale, detail, time.perf_counter() - begun, time.time(), required=False)

    def observe(self, meter: Meter) -> None:
        """Tell with each collection who answered and why, what is held, and how fresh it is."""
        counted = (
            (ANSWERS, self._answers, "{call}", "Calls that were authorized, by who answered and why."),
            ("pyairtable.replica.loads", self._loads, "{snapshot}", "Snapshots of permissions that were loaded."),
            ("pyairtable.replica.interruptions", self._interruptions, "{stream}", "Streams that were interrupted."),
        )
        for name, look, unit, words in counted:
            meter.create_observable_counter(name, [look], unit=unit, description=words)
        gauges = (
            ("pyairtable.replica.held", self._held, "{tenant}", "Tenants whose permissions are held."),
            ("pyairtable.replica.facts", self._facts, "{fact}", "Relationships, bindings and names that are held."),
            (
                "pyairtable.replica.silence",
                self._silence,
                "s",
                "Time since the stream that is silent longest was heard.",
            ),
            ("pyairtable.replica.skew", self._skew, "s", "How far the two clocks are apart, the most of all."),
            ("pyairtable.replica.lag", self._lag, "s", "How long the last change was on its way, the longest of all."),
            (
                "pyairtable.replica.lag.revisions",
                self._revisions,
                "{revision}",
                "How far the server was ahead when it was asked last, the most of all.",
            ),
        )
        for name, look, unit, words in gauges:
            meter.create_observable_gauge(name, [look], unit=unit, description=words)

    def _holding(self) -> list[Follower]:
        return [each for each in self._replicas.followers() if each.copy.engine is not None]

    def _answers(self, _options: CallbackOptions) -> list[Observation]:
        counts = dict(self._authorizer.answers)
        here = counts.pop(HERE, 0)
        found = [Observation(here, {"source": "replica", "reason": "fresh"})]
        return found + [Observation(n, {"source": "server", "reason": reason}) for reason, n in counts.items()]

    def _loads(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._replicas.loads)]

    def _interruptions(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._replicas.interruptions)]

    def _held(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(len(self._holding()))]

    def _facts(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(sum(each.copy.weight for each in self._holding()))]

    def _silence(self, _options: CallbackOptions) -> list[Observation]:
        heard = [each.copy.heard for each in self._holding() if not isinf(each.copy.heard)]
        return [Observation(max(0.0, self._clock() - min(heard, default=inf)))]

    def _skew(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(max((abs(each.copy.skew) for each in self._holding()), default=0.0))]

    def _lag(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(max((each.copy.delay for each in self._holding()), default=0.0))]

    def _revisions(self, _options: CallbackOptions) -> list[Observation]:
        behind = (max(0, each.newest - each.copy.revision) for each in self._holding())
        return [Observation(max(behind, default=0))]
