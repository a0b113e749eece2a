"""What can be set about a service: one frozen class, read from the environment when the process starts.

Every field is ``PYAIRTABLE_`` and its name in upper case. A value that does not fit stops the start with its name, the
rule and what was given.
"""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings that every service has; a service adds its own in a subclass."""

    model_config = SettingsConfigDict(
        env_prefix="PYAIRTABLE_", frozen=True, extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    environment: Literal["development", "test", "production"] = "development"
    """Where the process runs; `production` refuses what is only for development."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's address is not known before it runs; the laptop sets 127.0.0.1
    """Address that the ports are bound on."""
    grpc_port: int = Field(default=50051, ge=0, le=65535)
    """Port of the service's RPCs; 0 takes a free one."""
    health_port: int = Field(default=50053, ge=0, le=65535)
    """Port of `grpc.health.v1` for probes."""
    metrics_port: int = Field(default=9464, ge=0, le=65535)
    """Port of the Prometheus endpoint ``/metrics``."""

    database_url: SecretStr = SecretStr("")
    """``sqlite:///path/to/file.db`` or ``postgresql://user@host/name``; empty for SQLite in the working directory."""
    sealing_key_file: str = ""
    """File with at least 32 bytes that seal page and consistency tokens; empty keeps a random key in the database."""
    migrate: bool = True
    """Bring the database's schema up to date at start; off where a Job does it."""

    namespace: str = "default"
    """Namespace of the mesh that this process belongs to."""
    cluster_domain: str = "cluster.local"
    """Last part of canonical mesh names."""
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
    workload_issuer: str = "https://workloads.pyairtable.local"
    """`iss` of workload tokens; in a cluster, the API server's service-account issuer."""
    workload_token_file: str = ""
    """File with this process's own workload token; read again whenever it changes."""

    max_message_bytes: int = Field(default=4 << 20, ge=1 << 10, le=256 << 20)
    """Largest request that is received."""
    max_concurrent_calls: int = Field(default=1_000, ge=1, le=100_000)
    """Calls in flight, over which RESOURCE_EXHAUSTED is answered."""
    default_deadline_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Deadline of a unary call that comes without one."""
    removal_seconds: float = Field(default=3.0, ge=0, le=600)
    """How long NOT_SERVING is shown before the listener closes, so that clients go elsewhere first."""
    drain_seconds: float = Field(default=20.0, ge=0, le=3600)
    """How long calls in flight may take to finish at shutdown."""

    reflection: bool = True
    """Serve gRPC reflection, v1 and v1alpha."""
    telemetry_grpc: Literal["lean", "official"] = "lean"
    """Whose spans: our interceptor's, or `opentelemetry-instrumentation-grpc`'s (an extra)."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of traces begun here that are sampled; a caller's decision is kept."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level that is written."""
