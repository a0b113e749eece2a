"""meshctl as a person runs it, against the whole platform."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyairtable_laptop import people
from tests.mesh.platform import Platform

Done = subprocess.CompletedProcess[str]
Meshctl = Callable[..., Done]

COMMAND = (sys.executable, "-m", "pyairtable_mesh.meshctl")
SECONDS = 30.0
GET_BOB = json.dumps({"name": people.BOB.resource_name})


@pytest.fixture(scope="module")
def environment(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYAIRTABLE_")}
    home = str(tmp_path_factory.mktemp("configuration"))
    return {**kept, "XDG_CONFIG_HOME": home, "PYAIRTABLE_CONTROL_PLANE": platform.address("control-plane")}


@pytest.fixture(scope="module")
def meshctl(platform: Platform, environment: dict[str, str]) -> Meshctl:
    """Run a command; every demo user has logged in, alice last."""

    def run(*arguments: str, **variables: str) -> Done:
        command, own = [*COMMAND, *arguments], {**environment, **variables}
        done = subprocess.run(command, capture_output=True, text=True, env=own, timeout=SECONDS, check=False)
        assert "Traceback" not in done.stderr
        return done

    for person in reversed(people.PEOPLE):
        assert run("login", "--user", person.name, "--data", str(platform.data)).returncode == 0
    return run


def data(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_platform_is_well(meshctl: Meshctl) -> None:
    found = data(meshctl("doctor", "-o", "json"))
    assert [finding for finding in found if finding["state"] == "fail"] == []
    assert {"control plane", "token", "clients"} <= {finding["subject"] for finding in found}


def test_every_service_and_endpoint_is_listed(meshctl: Meshctl, platform: Platform) -> None:
    services = {service["shortName"]: service for service in data(meshctl("services", "-o", "json"))}
    assert services.keys() == {"audit", "permission", "user"}
    addresses = {endpoint["address"] for endpoint in data(meshctl("endpoints", "user", "-o", "json"))}
    assert addresses == {platform.address("user"), platform.address("user-2")}
    assert data(meshctl("status", "-o", "json"))["refusingClients"] == 0
    assert any(client["subscriptions"] for client in data(meshctl("clients", "-o", "json")))


@pytest.mark.parametrize(
    ("person", "code", "words"),
    [("alice", 0, '"displayName": "Bob Baker"'), ("carol", 71, "Error: PERMISSION_DENIED")],
)
def test_a_call_over_the_mesh(meshctl: Meshctl, person: str, code: int, words: str) -> None:
    done = meshctl("call", "--as", person, "user", "GetUser", GET_BOB)
    assert (done.returncode, words in done.stdout + done.stderr) == (code, True)


def test_a_broken_rule_is_told_by_its_field(meshctl: Meshctl) -> None:
    done = meshctl("call", "permission", "CheckPermission", '{"resource": "nonsense", "permission": "read"}')
    assert done.returncode == 67
    assert "field resource: " in done.stderr


def test_a_method_that_is_not_installed_is_found_by_reflection(meshctl: Meshctl, platform: Platform) -> None:
    address = platform.address("user")
    done = meshctl("call", "--address", address, "grpc.health.v1.Health/Check", '{"service": "liveness"}')
    assert data(done) == {"status": "SERVING"}


def test_a_token_that_is_not_ours_is_told(meshctl: Meshctl, platform: Platform) -> None:
    header, claims, _ = platform.token("alice").split(".")
    done = meshctl("doctor", PYAIRTABLE_TOKEN=f"{header}.{claims}.c2lnbmF0dXJl")
    assert done.returncode == 1
    assert "refused by audit, permission, user (TOKEN_INVALID)" in done.stdout


def test_no_control_plane(meshctl: Meshctl, platform: Platform) -> None:
    done = meshctl("services", "--control-plane", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: No control plane answers at 127.0.0.1:1.\nNext:  ")


def test_watching_ends_with_ctrl_c(meshctl: Meshctl, environment: dict[str, str]) -> None:
    command = [*COMMAND, "status", "--watch", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as watch:
        assert watch.stdout is not None
        assert len(json.loads(watch.stdout.readline())["services"]) == 3
        watch.send_signal(signal.SIGINT)
        _, told = watch.communicate(timeout=SECONDS)
    assert (watch.returncode, told) == (130, "")


def test_the_data_folder_of_another_platform_is_not_made(meshctl: Meshctl, tmp_path: Path) -> None:
    missing = tmp_path / "elsewhere"
    assert meshctl("login", "--user", "alice", "--data", str(missing)).returncode == 1
    assert not missing.exists()
