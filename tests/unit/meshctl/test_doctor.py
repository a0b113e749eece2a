"""One illness at a time: what `doctor` says, and that it fails where something is wrong."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from pyairtable.mesh.v1 import mesh_pb2
from tests.unit.meshctl.fakes import (
    ALICE,
    PLANE,
    TENANT,
    UNAUTHENTICATED,
    UNAVAILABLE,
    FakeMesh,
    client,
    dependency,
    endpoint,
    health,
    invoke,
    platform,
    service,
    token,
)

USER_ADDRESS = "127.0.0.1:50061"
USER = service("user", endpoint(USER_ADDRESS))


def examined(mesh: FakeMesh, variables: dict[str, str] | None = None) -> tuple[int, list[dict[str, Any]]]:
    done = invoke(mesh, "doctor", "-o", "json", variables=variables or {"PYAIRTABLE_TOKEN": token()})
    return done.exit_code, [found for found in json.loads(done.stdout) if found["state"] != "ok"]


def test_a_healthy_platform() -> None:
    mesh = platform(USER, clients=[client("pyairtable/user/1")])
    assert examined(mesh) == (0, [])


def test_no_control_plane() -> None:
    code, [found] = examined(FakeMesh())
    assert (code, found["state"], found["subject"]) == (1, "fail", "control plane")
    assert "make run" in found["nextStep"]


@pytest.mark.parametrize(
    ("endpoints", "text"),
    [
        ([], "no endpoint is registered"),
        ([endpoint(USER_ADDRESS, mesh_pb2.ENDPOINT_STATE_UNHEALTHY)], "no endpoint takes calls"),
    ],
)
def test_a_service_that_cannot_be_called(endpoints: list[mesh_pb2.Endpoint], text: str) -> None:
    code, [found] = examined(platform(service("user", *endpoints)))
    assert (code, found["state"], found["subject"], found["text"]) == (1, "fail", "user", text)


def test_a_problem_that_the_control_plane_knows() -> None:
    code, [found] = examined(platform(service("user", endpoint(USER_ADDRESS), problem="its policy is refused")))
    assert (code, found["state"], found["text"]) == (0, "warn", "its policy is refused")


def test_an_endpoint_that_is_gone() -> None:
    mesh = platform(USER)
    mesh.fail(USER_ADDRESS, "Check", UNAVAILABLE)
    code, [found] = examined(mesh)
    assert (code, found["subject"], found["text"]) == (1, f"user {USER_ADDRESS}", "does not answer (UNAVAILABLE)")


@pytest.mark.parametrize(("required", "code", "state"), [(True, 1, "fail"), (False, 0, "warn")])
def test_a_dependency_that_fails(required: bool, code: int, state: str) -> None:
    mesh = platform(USER)
    sick = dependency("permission", required=required, message="silent for 2 s")
    mesh.serve(USER_ADDRESS, "GetHealthReport", health(dependency("database"), sick))
    assert examined(mesh)[0] == code
    [found] = examined(mesh)[1]
    assert (found["state"], found["text"]) == (state, "permission is unhealthy: silent for 2 s")


def test_an_endpoint_that_is_not_ready() -> None:
    mesh = platform(USER)
    waiting = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
    mesh.serve(USER_ADDRESS, "Check", waiting)
    code, [found] = examined(mesh)
    assert (code, found["text"]) == (1, "answers NOT_SERVING")


def test_a_token_that_services_refuse_is_one_finding() -> None:
    mesh = platform(USER, service("audit", endpoint("127.0.0.1:50071")))
    for address in (USER_ADDRESS, "127.0.0.1:50071"):
        mesh.fail(address, "GetHealthReport", UNAUTHENTICATED)
    code, [found] = examined(mesh)
    assert (code, found["subject"], found["text"]) == (1, "token", "refused by audit, user (TOKEN_INVALID)")


@pytest.mark.parametrize(
    ("variables", "code", "text"),
    [
        ({"HOME": "/nonexistent"}, 0, "there is none, so dependencies cannot be asked for"),
        ({"PYAIRTABLE_TOKEN": token(expiry=datetime(2026, 3, 1, tzinfo=UTC))}, 1, "expired at 2026-03-01 00:00 UTC"),
        ({"PYAIRTABLE_TOKEN": "rubbish"}, 1, "The token is not a JSON web token."),
    ],
)
def test_a_token_that_cannot_be_used(variables: dict[str, str], code: int, text: str) -> None:
    mesh = platform(USER)
    ended, [found] = examined(mesh, variables)
    assert (ended, found["subject"], found["text"]) == (code, "token", text)
    assert not any("authorization" in sent.metadata for sent in mesh.sent)


def test_a_token_stays_on_this_machine() -> None:
    mesh = platform(service("user", endpoint("10.1.2.3:50051")))
    assert examined(mesh) == (0, [])
    assert not any("authorization" in sent.metadata for sent in mesh.sent)


@pytest.mark.parametrize(
    ("refusing", "code", "text"),
    [
        (
            client("pyairtable/user/1", refusal="unknown lb_policy"),
            1,
            "refuses CDS 55ee66ff7700 and stays with the version before: unknown lb_policy",
        ),
        (client("pyairtable/user/1", acknowledged=""), 0, "has not answered what was sent last"),
    ],
)
def test_a_client_that_does_not_take_what_is_served(refusing: mesh_pb2.Client, code: int, text: str) -> None:
    ended, [found] = examined(platform(USER, clients=[refusing]))
    assert (ended, found["subject"], found["text"]) == (code, "client pyairtable/user/1", text)


def test_a_good_token_is_told_with_its_owner() -> None:
    done = invoke(platform(USER), "doctor", variables={"PYAIRTABLE_TOKEN": token()})
    assert f"{ALICE} in {TENANT} until 2026-03-02 00:00 UTC" in done.stdout
    assert PLANE in done.stdout
