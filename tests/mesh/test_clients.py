"""Clients that are not ours call the running platform: grpcurl by reflection, a Go program at an address and over xDS.

The Go program is the example of the protos project, `protos/examples/go-client`.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, json_format
from grpc_reflection.v1alpha import reflection_pb2

from pyairtable_laptop import people, screen
from pyairtable_laptop.supervisor import State
from pyairtable_mesh.runtime.retries import RetryPolicy
from tests import tools
from tests.mesh.platform import Platform, until

CALL_SECONDS = 60.0
"""A call takes milliseconds; this is for a machine that does much else."""
GRPCURL_RPC_FAILED = 64
"""grpcurl's exit status is this plus the status code."""
USER, PERMISSION = "pyairtable.user.v1.UserService", "pyairtable.permission.v1.PermissionService"
AUDIT = "pyairtable.common.v1.AuditService"

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Grpcurl:
    """Runs grpcurl against instances of the platform."""

    program: Path
    platform: Platform

    def run(self, instance: str, *words: str, user: str = "", options: tuple[str, ...] = ()) -> Completed:
        token = ("-H", f"authorization: Bearer {self.platform.token(user)}") if user else ()
        address = self.platform.address(instance)
        return _run([str(self.program), "-plaintext", "-format-error", *token, *options, address, *words])

    def call(self, instance: str, method: str, body: object, user: str = "") -> Completed:
        return self.run(instance, method, user=user, options=("-d", json.dumps(body)))


@dataclass(frozen=True, slots=True)
class GoClient:
    """Runs the example client as a member of the mesh, with tokens of demo users in files."""

    program: Path
    platform: Platform
    folder: Path

    def command(self, user: str, *words: str) -> list[str]:
        token = self.folder / user
        token.write_text(self.platform.token(user))
        return [str(self.program), "-token-file", str(token), *words]

    def run(self, user: str, *words: str) -> Completed:
        return _run(self.command(user, *words), self.platform.bootstrap("go-client"))


@dataclass
class Calls:
    """What a verbose Go client logs: how many calls each server answered, and every line about anything else."""

    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def follow(self, log: asyncio.StreamReader) -> None:
        async for line in log:
            call = json.loads(line) if line.startswith(b"{") else {}
            if call.get("code") == "OK":
                self.answered[call["server"]] += 1
            else:
                self.failures.append(line.decode())


def _run(command: list[str], environment: dict[str, str] | None = None) -> Completed:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CALL_SECONDS, check=False)


def json_lines(done: Completed) -> list[dict[str, Any]]:
    """What a command that went well has printed."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def details(status: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The details of one kind in grpcurl's form of a google.rpc.Status."""
    return [detail for detail in status["details"] if detail["@type"] == f"type.googleapis.com/google.rpc.{kind}"]


@pytest.fixture(scope="module")
def grpcurl(platform: Platform) -> Grpcurl:
    return Grpcurl(tools.grpcurl(), platform)


@pytest.fixture(scope="module")
def go_client(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> GoClient:
    return GoClient(tools.go_client(), platform, tmp_path_factory.mktemp("tokens"))


@pytest.mark.parametrize(("instance", "service"), [("user", USER), ("permission", PERMISSION), ("audit", AUDIT)])
def test_grpcurl_lists_and_describes_services(grpcurl: Grpcurl, instance: str, service: str) -> None:
    listed = grpcurl.run(instance, "list").stdout.split()
    assert {service, "pyairtable.common.v1.DiagnosticsService", "grpc.health.v1.Health"} <= set(listed)
    described = grpcurl.run(instance, "describe", service)
    assert described.stdout.startswith(f"{service} is a service:"), described.stderr


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_in_both_versions(grpcurl: Grpcurl, tmp_path: Path, version: str) -> None:
    protoset = tmp_path / "reflection.binpb"
    protoset.write_bytes(_reflection_protoset(version))
    options = ("-protoset", str(protoset), "-d", '{"list_services": ""}')
    done = grpcurl.run("user", f"grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", options=options)
    answer = json.loads(done.stdout)
    assert USER in [service["name"] for service in answer["list_services_response"]["service"]]


def _reflection_protoset(version: str) -> bytes:
    """The reflection service's descriptors: those of v1alpha, which are those of v1 but for the package."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    renamed = json_format.MessageToJson(file).replace("grpc.reflection.v1alpha", f"grpc.reflection.{version}")
    return descriptor_pb2.FileDescriptorSet(
        file=[json_format.Parse(renamed, descriptor_pb2.FileDescriptorProto())]
    ).SerializeToString()


def test_the_grpcurl_lines_of_the_first_screen_work(grpcurl: Grpcurl, platform: Platform) -> None:
    states = [State(**process) for process in platform.ready["processes"]]
    commands = screen.commands(screen.Ready(1.0, platform.data, states, []))
    lines = [line for each in commands.values() for line in each if line.startswith(("TOKEN=", "grpcurl "))]
    assert len(lines) == 3
    path = f"{grpcurl.program.parent}:{os.environ['PATH']}"
    done = _run(["bash", "-ec", "\n".join(lines)], {**os.environ, "PATH": path})
    assert '"Bob Baker"' in done.stdout, done.stderr
    assert '"RESULT_ALLOWED"' in done.stdout


@pytest.mark.parametrize("header", ["", "authorization: Bearer forged"])
def test_a_call_without_a_good_token_is_unauthenticated(grpcurl: Grpcurl, header: str) -> None:
    options = ("-H", header) if header else ()
    done = grpcurl.run("user", f"{USER}/GetMe", options=options)
    status = json.loads(done.stderr)
    assert (done.returncode, status["code"]) == (GRPCURL_RPC_FAILED + 16, 16)
    [info] = details(status, "ErrorInfo")
    assert info["domain"] == "pyairtable.io"
    assert info["reason"] == ("TOKEN_INVALID" if header else "TOKEN_MISSING")


@pytest.mark.parametrize(
    ("instance", "method", "body", "fields"),
    [
        ("user", f"{USER}/GetUser", {"name": "bob"}, {"name"}),
        ("user", f"{USER}/ListUsers", {"page_size": -1, "order_by": "x" * 201}, {"page_size", "order_by"}),
        ("user", f"{USER}/CreateUser", {"user": {"email": "nobody"}}, {"user.email"}),
        ("permission", f"{PERMISSION}/CheckPermission", {"resource": people.BASE}, {"permission"}),
        (
            "permission",
            f"{PERMISSION}/WriteRelationships",
            {"updates": [{"relationship": {"resource": "?"}}]},
            {"updates[0].relationship.resource"},
        ),
        ("audit", f"{AUDIT}/ListAuditEvents", {"page_size": -1}, {"page_size"}),
    ],
)
def test_bad_input_names_the_fields(
    grpcurl: Grpcurl, instance: str, method: str, body: dict[str, Any], fields: set[str]
) -> None:
    done = grpcurl.call(instance, method, body, "alice")
    status = json.loads(done.stderr)
    assert (done.returncode, status["code"]) == (GRPCURL_RPC_FAILED + 3, 3)
    [request] = details(status, "BadRequest")
    assert fields <= {violation["field"] for violation in request["field_violations"]}


def test_the_go_client_passes_its_own_tests() -> None:
    assert tools.go("vet", "./...", folder=tools.GO_CLIENT) == ""
    tools.go("test", "./...", folder=tools.GO_CLIENT)


def test_the_go_client_brings_the_policy_of_the_mesh() -> None:
    config = json.loads((tools.GO_CLIENT / "service_config.json").read_text())
    assert config == RetryPolicy().service_config()


@pytest.mark.parametrize(
    ("user", "words", "status", "told"),
    [
        ("carol", ["users"], 1, ["PERMISSION_DENIED: ", "  reason: PERMISSION_DENIED (pyairtable.io)"]),
        ("alice", ["-page-size", "-1", "users"], 1, ["INVALID_ARGUMENT: ", "  field page_size: must be greater"]),
        ("alice", ["check", "spaceship:1", "read"], 1, ["INVALID_ARGUMENT: ", "  field resource: "]),
        ("alice", ["-target", "xds:///nobody", "me"], 3, ["UNAVAILABLE: ", "nobody"]),
        ("alice", ["-timeout", "1us", "me"], 3, ["DEADLINE_EXCEEDED: "]),
    ],
)
def test_a_go_client_says_what_is_wrong(
    go_client: GoClient, user: str, words: list[str], status: int, told: list[str]
) -> None:
    done = go_client.run(user, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert [part for part in told if part not in done.stderr] == [], done.stderr


async def test_an_instance_killed_costs_a_go_client_no_call(go_client: GoClient, platform: Platform) -> None:
    both = {platform.address("user"), platform.address("user-2")}
    client = await asyncio.create_subprocess_exec(
        *go_client.command("alice", "-repeat", "4", "-verbose", "me"),
        env=platform.bootstrap("go-client"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert client.stderr is not None
    calls = Calls()

    def both_answer() -> bool:
        assert calls.failures == []
        return calls.answered.keys() == both

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(calls.follow(client.stderr))
        try:
            await until("answers of both instances", both_answer)
            told = len(platform.events)
            os.kill(platform.pid("user-2"), signal.SIGKILL)
            await platform.event("serving", "user-2", told)
            calls.answered.clear()
            await until("answers of both instances again", both_answer)
        finally:
            with contextlib.suppress(ProcessLookupError):
                client.send_signal(signal.SIGINT)
    assert await client.wait() == 0
