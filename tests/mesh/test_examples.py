"""The examples of the protos project beside a running platform: clients in Go and Python, a server in Go, and what
travels from a client through one service to the next.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyairtable_laptop import people
from pyairtable_mesh.runtime.retries import RetryPolicy
from tests import tools
from tests.mesh import outside
from tests.mesh.joining import joined
from tests.mesh.platform import Platform

PYTHON_CLIENT = tools.REPOSITORY / "protos/examples/python-client"
GO_SERVER = tools.REPOSITORY / "protos/examples/go-server"
PROGRAMS = Path(__file__).with_name("programs")
CHAIN = PROGRAMS / "chain.py"
CALL_SECONDS = 60.0

Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return outside.published(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module", params=["go", "python"])
def client(
    request: pytest.FixtureRequest, platform: Platform, release: Path, tmp_path_factory: pytest.TempPathFactory
) -> Client:
    """Runs an example client with a demo user's token, outside of the repository, on what a release publishes.

    Options have one form here, and each language's its own.
    """
    folder = tmp_path_factory.mktemp("outside")
    go = request.param == "go"
    program = [str(outside.go_client(release, folder))] if go else outside.python_client(release, folder)

    def run(user: str, *words: str) -> subprocess.CompletedProcess[str]:
        token = folder / user
        token.write_text(platform.token(user))
        options = ["--token-file", str(token), *words]
        if go:
            options = [option.removeprefix("-") if option.startswith("--") else option for option in options]
        return subprocess.run(
            [*program, *options],
            env=platform.bootstrap("example"),
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", ["address", "mesh"])
def test_a_client_calls(client: Client, platform: Platform, way: str) -> None:
    def run(user: str, service: str, *words: str) -> list[dict[str, Any]]:
        target = ("--target", platform.address(service)) if way == "address" else ()
        return lines(client(user, *target, *words))

    assert [user["email"] for user in run("alice", "user", "me")] == ["alice@example.com"]
    assert {person.resource_name for person in people.PEOPLE} <= {
        user["name"] for user in run("alice", "user", "users")
    }
    for user, result in (("bob", "RESULT_ALLOWED"), ("carol", "RESULT_DENIED")):
        assert [each["result"] for each in run(user, "permission", "check", people.TABLE, "read")] == [result]


def test_a_client_follows_a_stream(client: Client) -> None:
    events = lines(client("alice", "--limit", "2", "tail"))
    assert [event["name"].startswith("auditEvents/aud") for event in events] == [True, True]


@pytest.mark.parametrize(
    ("user", "words", "status", "told"),
    [
        ("carol", ["users"], 1, ["PERMISSION_DENIED: ", "  reason: PERMISSION_DENIED (pyairtable.io)"]),
        ("alice", ["check", "spaceship:1", "read"], 1, ["INVALID_ARGUMENT: ", "  field resource: "]),
        ("alice", ["--target", "xds:///nobody", "me"], 3, ["UNAVAILABLE: ", "nobody"]),
        ("carol", ["tail"], 1, ["PERMISSION_DENIED: "]),
    ],
)
def test_a_client_says_what_is_wrong(client: Client, user: str, words: list[str], status: int, told: list[str]) -> None:
    done = client(user, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert [part for part in told if part not in done.stderr] == [], done.stderr


def test_a_client_logs_its_calls(client: Client) -> None:
    done = client("alice", "--verbose", "--correlation-id", "run-1", "me")
    assert [part for part in ("UserService/GetMe", "OK", "run-1") if part not in done.stderr] == []


def test_the_python_client_brings_the_policy_of_the_mesh() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "import channel, json; print(json.dumps(channel.SERVICE_CONFIG))"],
        cwd=PYTHON_CLIENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(printed.stdout) == RetryPolicy().service_config()


def test_the_go_server_passes_its_own_tests() -> None:
    assert tools.go("vet", "./...", folder=GO_SERVER) == ""
    tools.go("test", "./...", folder=GO_SERVER)


@pytest.fixture(scope="module")
def go_server(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    built = tmp_path_factory.mktemp("go-server") / "go-server"
    tools.go("build", "-o", str(built), ".", folder=GO_SERVER)
    with joined(platform, "go-server", built):
        yield


@pytest.mark.usefixtures("go_server")
def test_python_calls_the_go_server_by_its_name(platform: Platform) -> None:
    told = call_go_server(platform, platform.token("alice"))
    assert told["service"] == "go-server"
    assert told["runtime"].startswith("go1.")
    assert told["dependencies"] == {"permission": "HEALTH_STATE_HEALTHY"}


@pytest.mark.usefixtures("go_server")
@pytest.mark.parametrize(("token", "reason"), [("", "TOKEN_MISSING"), ("nonsense", "TOKEN_INVALID")])
def test_the_go_server_refuses_who_has_no_token(platform: Platform, token: str, reason: str) -> None:
    assert call_go_server(platform, token) == {"status": "UNAUTHENTICATED", "reason": reason}


def call_go_server(platform: Platform, token: str) -> dict[str, Any]:
    """What a Python program of its own gets from ``xds:///go-server``: the bootstrap is read once a process."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "go_server_client.py", token],
        env=platform.bootstrap("tester"),
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_what_a_client_sends_arrives_in_the_second_service(client: Client, platform: Platform, tmp_path: Path) -> None:
    """Correlation id, user, tenant, trace and deadline, from a client in Go or Python through `first` to `second`."""
    record = tmp_path / "seen.jsonl"
    with (
        joined(platform, "second", sys.executable, CHAIN, "second", record),
        joined(platform, "first", sys.executable, CHAIN, "first", record),
    ):
        words = ("--verbose", "--correlation-id", "run-7", "--target", "xds:///first", "me")
        done = client("alice", *words)
        assert [user["displayName"] for user in lines(done)] == [people.ALICE.subject]
    [seen] = [json.loads(line) for line in record.read_text().splitlines()]
    left = seen.pop("seconds_left")
    assert 0 < left < 10, "the client's deadline, less the time on the way"
    assert seen.pop("trace_id") in done.stderr, "the trace that the client has logged"
    assert seen == {"correlation_id": "run-7", "subject": people.ALICE.subject, "tenant": people.TENANT}
