"""The whole platform on this machine, as `make run` starts it."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_laptop import people
from tests.mesh import platform_load
from tests.mesh.platform import COMMAND, Platform, is_alive, run_failing, started, until


async def test_every_process_serves(platform: Platform) -> None:
    names = [process["name"] for process in platform.ready["processes"]]
    assert names == ["control-plane", "permission", "user", "user-2", "audit"]
    for name in names:
        async with grpc.aio.insecure_channel(platform.health_address(name)) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


async def get_user(platform: Platform, instance: str, caller: str, name: str) -> Any:
    async with platform.channel(instance) as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        return await stub.GetUser(user_pb2.GetUserRequest(name=name), metadata=platform.metadata(caller), timeout=10)


async def test_the_calls_of_the_first_screen_are_as_it_says(platform: Platform) -> None:
    allowed, denied = platform.ready["calls"]
    assert (allowed["person"], allowed["allowed"], allowed["answer"]) == ("alice", True, "Bob Baker")
    assert (denied["person"], denied["allowed"], denied["answer"]) == ("carol", False, "PERMISSION_DENIED")
    assert allowed["why"]
    assert denied["why"]
    for instance in ("user", "user-2"):
        answer = await get_user(platform, instance, "alice", people.BOB.resource_name)
        assert answer.display_name == "Bob Baker"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_user(platform, instance, "carol", people.BOB.resource_name)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("person", "result"), [("alice", "ALLOWED"), ("bob", "ALLOWED"), ("carol", "DENIED")])
async def test_roles_of_the_demo_reach_down_to_the_table(platform: Platform, person: str, result: str) -> None:
    request = permission_pb2.CheckPermissionRequest(resource=people.TABLE, permission="create_record")
    async with platform.channel("permission") as channel:
        stub = permission_pb2_grpc.PermissionServiceStub(channel)
        answer = await stub.CheckPermission(request, metadata=platform.metadata(person), timeout=10)
    assert permission_pb2.Decision.Result.Name(answer.decision.result) == f"RESULT_{result}"


async def test_a_process_killed_under_load_costs_no_call_and_is_replaced(platform: Platform) -> None:
    for instance in ("user", "user-2"):  # each has found the permission service before the control plane goes
        await get_user(platform, instance, "alice", people.BOB.resource_name)
    async with loading(platform) as load:
        for instance in ("control-plane", "user-2"):
            told = len(platform.events)
            killed = platform.pid(instance)
            os.kill(killed, signal.SIGKILL)
            ended = await platform.event("ended", instance, told)
            assert "was ended by SIGKILL; it is started again" in ended["words"]
            served = await platform.event("serving", instance, told)
            assert served["pid"] != killed
        output, _ = await asyncio.wait_for(load.communicate(b""), 30)
    found = json.loads(output)
    assert found["failures"] == []
    assert found["calls"] > 100


@contextlib.asynccontextmanager
async def loading(platform: Platform) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client that calls GetUser over xDS all the time; it has had its first answer."""
    load = await asyncio.create_subprocess_exec(
        sys.executable,
        *(platform_load.__file__, platform.token("alice"), people.BOB.resource_name),
        env=platform.bootstrap("tester"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert load.stdout is not None
        await asyncio.wait_for(load.stdout.readline(), 60)
        yield load
    finally:
        if load.returncode is None:
            load.kill()
            await load.wait()


async def test_a_frozen_instance_takes_no_calls_until_it_answers_again(platform: Platform) -> None:
    told = len(platform.events)
    os.kill(platform.pid("user-2"), signal.SIGSTOP)
    try:
        await platform.event("unready", "user-2", told)
    finally:
        os.kill(platform.pid("user-2"), signal.SIGCONT)
    await platform.event("serving", "user-2", told)


def test_a_second_run_on_the_same_folder_is_refused(platform: Platform) -> None:
    words = run_failing("--free-ports", "--data", str(platform.data))
    assert f"(process {platform.supervisor.pid})" in words
    assert "--data DIR" in words


def test_ports_in_use_are_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 50061))
        taken.listen()
        words = run_failing("--data", str(tmp_path))
    [line] = [line for line in words.splitlines() if "50061 (user, gRPC): used by " in line]
    assert line.endswith(f"(process {os.getpid()})")
    assert not list((tmp_path / "logs").iterdir())


def test_it_ends_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    command = [*COMMAND, "--free-ports", "--output", "json", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        first = json.loads(supervisor.stdout.readline())
        supervisor.stdout.close()
        assert supervisor.wait(60) == 0
        assert supervisor.stderr is not None
        assert supervisor.stderr.read() == ""
    assert not is_alive(first["pid"])


async def test_ctrl_c_leaves_the_data_and_no_process(tmp_path: Path) -> None:
    with started(tmp_path / "data") as platform:
        async with platform.channel("user") as channel:
            stub = user_pb2_grpc.UserServiceStub(channel)
            await stub.CreateUser(
                user_pb2.CreateUserRequest(user=user_pb2.User(email="dave@example.com")),
                metadata=platform.metadata("alice"),
                timeout=10,
            )
        assert platform.end(signal.SIGINT) == 0
        assert [pid for pid in platform.pids() if is_alive(pid)] == []
    screen, supervisor = first_screen(tmp_path)
    pids = {int(number) for number in re.findall(r"SERVING  process (\d+)", screen)}
    try:
        assert len(pids) == 4
        assert "\x1b" not in screen
        answers = pasted(screen, tmp_path)
        assert "Bob Baker" in answers
        assert "RESULT_ALLOWED" in answers
        search = f"""{meshctl_call(screen)} user SearchUsers '{{"query": "dave"}}'"""
        assert "dave@example.com" in run_line(search, tmp_path)
    finally:
        supervisor.kill()
        supervisor.communicate()
    for pid in pids:
        await until(f"process {pid} to end with its supervisor", lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


def first_screen(folder: Path) -> tuple[str, "subprocess.Popen[str]"]:
    """Run the platform in `folder` for people, with its output in a pipe: what it shows, and its process."""
    command = [*COMMAND, "--free-ports", "--data", "data"]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert supervisor.stdout is not None
    lines = list(itertools.takewhile(lambda line: "Ctrl-C" not in line, supervisor.stdout))
    return "".join(lines), supervisor


def pasted(screen: str, folder: Path) -> str:
    """Paste the lines that need no grpcurl, one after the other: what they answer."""
    lines = [line.strip() for line in screen.splitlines() if re.match(r"  \S*(meshctl |TOKEN=)", line)]
    assert len(lines) == 4
    return "".join(run_line(line, folder) for line in lines)


def meshctl_call(screen: str) -> str:
    """The beginning of the screen's lines that call."""
    match = re.search(r"^  (\S*meshctl call --control-plane \S+)", screen, re.MULTILINE)
    assert match
    return match[1]


def run_line(line: str, folder: Path) -> str:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout
