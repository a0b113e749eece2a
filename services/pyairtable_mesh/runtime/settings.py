"""What can be set about a service: one frozen class, read from the environment when the process starts.

Every field is ``PYAIRTABLE_`` and its name in upper case. A value that does not fit stops the start with its name and
the rule; values are never repeated, for they may be secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta


class Secret(str):
    """A setting that may hold a secret: its value is used, and never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


NO_SECRET = Secret()


class SettingsError(Exception):
    """Variables that do not fit; `problems` has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that every service has; a service adds its own in a subclass (a frozen dataclass, too)."""

    prefix: ClassVar[str] = "PYAIRTABLE_"

    environment: Literal["development", "test", "production"] = "development"
    """Where the process runs; `production` refuses what is only for development."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's address is not known before it runs; the laptop sets 127.0.0.1
    """Address that the ports are bound on."""
    grpc_port: Annotated[int, Meta(ge=0, le=65535)] = 50051
    """Port of the service's RPCs; 0 takes a free one."""
    health_port: Annotated[int, Meta(ge=0, le=65535)] = 50053
    """Port of `grpc.health.v1` for probes."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    """Port of the Prometheus endpoint ``/metrics``."""

    database_url: Secret = NO_SECRET
    """``sqlite:///path/to/file.db`` or ``postgresql://user@host/name``; empty for SQLite in the working directory."""
    database_wait_seconds: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    """How long a PostgreSQL that does not answer is waited for at start, before the process ends."""
    sealing_key_file: str = ""
    """File with at least 32 bytes that seal page and consistency tokens; empty keeps a random key in the database."""
    migrate: bool = True
    """Bring the database's schema up to date at start; off where a Job does it."""

    namespace: str = "default"
    """Namespace of the mesh that this process belongs to."""
    control_plane: str = ""
    """``host:port`` of the xDS server; empty for plain DNS."""
    peers: str = ""
    """Addresses for peers without a control plane: ``permission=127.0.0.1:50051,user=…``; others by DNS."""

    trust_domain: str = "pyairtable.local"
    """SPIFFE trust domain; also the audience of workload tokens."""
    jwks: str = ""
    """Keys of the users' token issuer: a file or an http(s) URL."""
    token_issuer: str = "https://auth.pyairtable.local"  # noqa: S105 - an issuer's name
    """`iss` of users' access tokens."""
    token_audience: str = "pyairtable"  # noqa: S105 - an audience's name
    """`aud` of users' access tokens."""
    workload_jwks: str = ""
    """Keys of the workloads' token issuer: a file or an http(s) URL."""
    workload_jwks_authority_file: str = ""
    """Certificates of the authority that signs for `workload_jwks`; empty for those that the machine trusts."""
    workload_jwks_token_file: str = ""
    """File with the bearer token to read `workload_jwks` with; in a cluster, the pod's token for the API server."""
    workload_issuer: str = "https://workloads.pyairtable.local"
    """`iss` of workload tokens; in a cluster, the API server's service-account issuer."""
    workload_token_file: str = ""
    """File with this process's own workload token; read again whenever it changes."""

    max_message_bytes: Annotated[int, Meta(ge=1 << 10, le=256 << 20)] = 4 << 20
    """Largest request that is received."""
    max_concurrent_calls: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """Unary calls in flight, and streams, over which RESOURCE_EXHAUSTED is answered."""
    max_calls_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Calls a second, over which RESOURCE_EXHAUSTED is answered with the delay to wait, and messages of request streams
    are read later; 0 for no limit."""
    default_deadline_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    """Deadline of a unary call that comes without one."""
    removal_seconds: Annotated[float, Meta(ge=0, le=600)] = 3.0
    """How long NOT_SERVING is shown before the listener closes, so that clients go elsewhere first."""
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """How long calls in flight may take to finish at shutdown."""

    authorizer: Literal["replica", "peer"] = "replica"
    """Who authorizes calls: a replica of the permissions in this process, or the permission service alone."""
    replica_budget_seconds: Annotated[float, Meta(ge=2, le=300)] = 5.0
    """How long a replica that no longer hears the permission service goes on answering."""
    replica_skew_seconds: Annotated[float, Meta(ge=0.5, le=60)] = 2.0
    """How far this clock may be from the permission service's for a replica to judge what expires, and to answer."""
    replica_idle_seconds: Annotated[float, Meta(ge=10, le=86_400)] = 600.0
    """How long a tenant's replica is kept without a call that asks it."""
    replica_tenants: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Tenants whose permissions are held at once, each a stream; for others the permission service is asked."""
    replica_facts: Annotated[int, Meta(ge=1_000, le=1_000_000_000)] = 1_000_000
    """Relationships, bindings and names that are held of all tenants; about 150 bytes each."""
    audit_allowed_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.001
    """Share of the allowed checks that is written to the audit log; denials and administrative acts all are."""

    reflection: bool = True
    """Serve gRPC reflection, v1 and v1alpha."""
    telemetry_grpc: Literal["lean", "official"] = "lean"
    """Whose spans: our interceptor's, or `opentelemetry-instrumentation-grpc`'s (an extra)."""
    trace_sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of traces begun here that are sampled, none without an OTLP endpoint; a caller's decision is kept."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is written."""


Kind = TypeVar("Kind")


def load(kind: type[Kind], environment: Mapping[str, str], prefix: str = Settings.prefix) -> Kind:
    """A frozen dataclass of settings from variables named `prefix` and the field's name in upper case.

    `SettingsError` names every variable that does not fit its field's type or bounds, not the first alone.
    """
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name in (field.name for field in fields(kind)):  # type: ignore[arg-type]
        variable = prefix + name.upper()
        if variable in environment:
            try:
                values[name] = _converted(environment[variable], hints[name])
            except ValueError as error:
                problems.append(f"{variable}: {error}")
    if problems:
        raise SettingsError(problems)
    return kind(**values)


def _converted(value: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"Expected one of {', '.join(get_args(kind))}")
        return value
    try:
        return msgspec.convert(value, kind, strict=False, dec_hook=lambda made, text: made(text))
    except msgspec.ValidationError as error:
        raise ValueError(str(error).partition(", got")[0]) from None
