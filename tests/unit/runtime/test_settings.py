"""Settings come from the environment, their defaults are a promise, and a wrong value stops the start."""

from dataclasses import asdict, dataclass
from typing import Annotated

import pytest
from msgspec import Meta

from pyairtable_mesh.runtime.settings import Secret, Settings, SettingsError, load

DEFAULTS = {
    "environment": "development",
    "host": "0.0.0.0",
    "grpc_port": 50051,
    "health_port": 50053,
    "metrics_port": 9464,
    "database_url": "",
    "database_wait_seconds": 60.0,
    "sealing_key_file": "",
    "migrate": True,
    "namespace": "default",
    "control_plane": "",
    "peers": "",
    "trust_domain": "pyairtable.local",
    "jwks": "",
    "token_issuer": "https://auth.pyairtable.local",
    "token_audience": "pyairtable",
    "workload_jwks": "",
    "workload_jwks_authority_file": "",
    "workload_jwks_token_file": "",
    "workload_issuer": "https://workloads.pyairtable.local",
    "workload_token_file": "",
    "max_message_bytes": 4 << 20,
    "max_concurrent_calls": 1000,
    "max_calls_per_second": 0.0,
    "default_deadline_seconds": 30.0,
    "removal_seconds": 3.0,
    "drain_seconds": 20.0,
    "authorizer": "replica",
    "replica_budget_seconds": 5.0,
    "replica_skew_seconds": 2.0,
    "replica_idle_seconds": 600.0,
    "replica_tenants": 100,
    "replica_facts": 1_000_000,
    "audit_allowed_ratio": 0.001,
    "reflection": True,
    "telemetry_grpc": "lean",
    "trace_sample_ratio": 1.0,
    "log_format": "json",
    "log_level": "INFO",
}


@dataclass(frozen=True, kw_only=True)
class Own(Settings):
    greeting: Annotated[str, Meta(max_length=8)] = "hello"


def test_the_defaults_are_a_promise() -> None:
    assert asdict(load(Settings, {})) == DEFAULTS


def test_values_are_read_as_their_fields_types() -> None:
    environment = {
        "PYAIRTABLE_GRPC_PORT": "0",
        "PYAIRTABLE_REFLECTION": "false",
        "PYAIRTABLE_DRAIN_SECONDS": "1.5",
        "PYAIRTABLE_GREETING": "hi",
        "PYAIRTABLE_UNKNOWN": "is left alone",
    }
    read = load(Own, environment)
    assert (read.grpc_port, read.reflection, read.drain_seconds, read.greeting) == (0, False, 1.5, "hi")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PYAIRTABLE_GRPC_PORT", "70000"),
        ("PYAIRTABLE_GRPC_PORT", "http"),
        ("PYAIRTABLE_ENVIRONMENT", "staging"),
        ("PYAIRTABLE_REFLECTION", "perhaps"),
        ("PYAIRTABLE_TRACE_SAMPLE_RATIO", "2"),
        ("PYAIRTABLE_GREETING", "far too long"),
    ],
)
def test_a_wrong_value_is_named_without_being_repeated(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Own, {variable: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{variable}: ")
    assert value not in caught.value.problems[0].removeprefix(variable)


def test_every_wrong_value_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Settings, {"PYAIRTABLE_GRPC_PORT": "x", "PYAIRTABLE_LOG_LEVEL": "x"})
    assert len(caught.value.problems) == 2


def test_a_secret_is_not_shown() -> None:
    read = load(Settings, {"PYAIRTABLE_DATABASE_URL": "postgresql://u:hunter2@db/x"})
    assert isinstance(read.database_url, Secret)
    assert "hunter2" not in repr(read)
