"""The mesh as the control plane sees it: immutable values that every provider yields and the translator reads.

Nothing here knows Kubernetes, files, xDS or gRPC.
"""

import dataclasses
import enum

DEFAULT_DOMAIN = "cluster.local"


class Health(enum.StrEnum):
    """Whether an endpoint takes calls.

    DRAINING endpoints end what they have begun: only sticky sessions still reach them.
    """

    HEALTHY = "HEALTHY"
    DRAINING = "DRAINING"
    UNHEALTHY = "UNHEALTHY"


class LoadBalancing(enum.StrEnum):
    """How a client picks an endpoint; clients that lack LEAST_REQUEST (gRPC C-core) fall back to ROUND_ROBIN."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class RetryCode(enum.StrEnum):
    """The statuses on which gRPC's xDS clients can retry (gRFC A44)."""

    CANCELLED = "CANCELLED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One instance of a service. The address is an IP address: xDS clients look up no names.

    `instance` names what runs there, a pod in a cluster; `identity` is the SPIFFE id that it is known to run as, empty
    where nobody knows.
    """

    address: str
    port: int
    zone: str = ""
    weight: int = 1
    health: Health = Health.HEALTHY
    instance: str = ""
    identity: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries of calls that got no response yet. `attempts` counts the first; back-offs are in seconds."""

    codes: tuple[RetryCode, ...] = (RetryCode.UNAVAILABLE,)
    attempts: int = 4
    initial_backoff: float = 0.025
    max_backoff: float = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Ejects endpoints by their share of failed calls; durations in seconds, shares in percent.

    gRPC counts every status but OK as a failure (gRFC A50), NOT_FOUND included: that is why no service has it
    unless its owner asks.
    """

    interval: float = 1.0
    base_ejection_time: float = 10.0
    max_ejection_percent: int = 50
    failure_percentage: int = 85
    minimum_hosts: int = 2
    request_volume: int = 20


@dataclasses.dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """How clients call a service. The concurrency limit holds per client process."""

    load_balancing: LoadBalancing = LoadBalancing.ROUND_ROBIN
    max_concurrent_requests: int = 65_536
    retry: RetryPolicy = RetryPolicy()
    outlier_detection: OutlierDetection | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One gRPC port of a service and where it is served.

    `port` is the port in the canonical name; each endpoint has a port of its own.
    """

    name: str
    namespace: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    policy: TrafficPolicy = TrafficPolicy()
    domain: str = DEFAULT_DOMAIN

    @property
    def canonical_name(self) -> str:
        """`<service>.<namespace>.svc.<cluster domain>:<port>`, unique in the mesh."""
        return f"{self.name}.{self.namespace}.svc.{self.domain}:{self.port}"

    @property
    def identities(self) -> tuple[str, ...]:
        """The SPIFFE ids behind the endpoints, sorted: what a client must see, whatever the service is called."""
        return tuple(sorted({found.identity for found in self.endpoints if found.identity}))


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """What runs at an address: `instance` in `namespace`, and the SPIFFE id of its account."""

    namespace: str
    instance: str
    identity: str


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something in the mesh's description that was left out, and why, in words for its author.

    `where` is a path in a document (`services[2].port`), an object's name, or a service's canonical name; `service` is
    the canonical name of the service that it is about, where that is known.
    """

    where: str
    reason: str
    service: str = ""

    @property
    def namespace(self) -> str:
        """The namespace of the service, empty where that is not known."""
        match self.service.split(".", 3):
            case [_, namespace, "svc", _]:
                return namespace
            case _:
                return ""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Mesh:
    """All services at one moment. Of two with the same canonical name the first counts."""

    services: tuple[Service, ...] = ()
    problems: tuple[Problem, ...] = ()
