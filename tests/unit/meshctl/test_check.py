"""`check` on machines that are made up, and what this machine tells about itself."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pyairtable_laptop import plan
from pyairtable_mesh.meshctl.check import PORTS, REQUIRED, TOOLS, examine
from pyairtable_mesh.meshctl.environment import run_program
from pyairtable_mesh.meshctl.findings import Finding
from pyairtable_mesh.meshctl.machine import LocalMachine


@dataclass(frozen=True, slots=True)
class FakeMachine:
    python_version: str = "3.12.1"
    missing: str = ""
    tools: dict[str, str] = field(default_factory=lambda: {tool.command[0]: "1.2.3" for tool in TOOLS})
    users: dict[int, str] = field(default_factory=dict)

    def python(self) -> str:
        return self.python_version

    def distribution(self, name: str) -> str:
        return "" if name == self.missing else "1.0"

    def program(self, command: Sequence[str]) -> str | None:
        return self.tools.get(command[0])

    def port_is_free(self, port: int) -> bool:
        return port not in self.users

    def port_user(self, port: int) -> str:
        return self.users[port]


def found(machine: FakeMachine, state: str) -> list[Finding]:
    return [finding for finding in examine(machine) if finding.state == state]


def test_a_machine_that_has_everything() -> None:
    assert {finding.state for finding in examine(FakeMachine())} == {"ok"}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_package_fails(name: str) -> None:
    [finding] = found(FakeMachine(missing=name), "fail")
    assert (finding.subject, finding.text) == (name, "not installed")


def test_an_old_python_fails_with_the_next_step() -> None:
    [finding] = found(FakeMachine(python_version="3.9.2"), "fail")
    assert (finding.text, "3.11" in finding.next_step) == ("3.9.2 is too old", True)


@pytest.mark.parametrize(
    ("user", "text", "step"),
    [
        ("nginx (process 7)", "in use by nginx (process 7); wanted for control plane", "stop what uses it"),
        ("", "in use by a process that cannot be told; wanted for control plane", "lsof -nP -iTCP:18000"),
    ],
)
def test_a_port_in_use_fails_and_names_the_user(user: str, text: str, step: str) -> None:
    [finding] = found(FakeMachine(users={18000: user}), "fail")
    assert (finding.text, step in finding.next_step) == (text, True)


def test_ports_in_use_by_the_platform_are_fine() -> None:
    users = dict.fromkeys(PORTS, "python -m pyairtable_mesh user (process 7)")
    assert found(FakeMachine(users=users), "fail") == []


def test_the_ports_are_those_of_the_laptop() -> None:
    wanted = {port for ports in plan.FIXED_PORTS.values() for _, port in ports.named()}
    assert PORTS.keys() == wanted


def test_tools_are_optional() -> None:
    machine = FakeMachine(tools={"go": ""})
    assert found(machine, "fail") == []
    assert len(found(machine, "warn")) == len(TOOLS)


def test_this_machine_tells_who_uses_a_port() -> None:
    machine = LocalMachine(run_program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not machine.port_is_free(port)
        if sys.platform == "linux":
            assert "pytest" in machine.port_user(port)
    assert machine.port_is_free(port)
    assert machine.port_user(port) == ""


def test_this_machine_tells_versions() -> None:
    machine = LocalMachine(run_program)
    assert machine.program(["not-a-program-anywhere"]) is None
    assert machine.program([sys.executable, "--version"]) == machine.python()
    assert machine.program([sys.executable, "-c", "raise SystemExit(1)"]) == ""
    assert machine.distribution("pytest") == pytest.__version__
    assert machine.distribution("not-a-distribution") == ""


def test_a_program_that_hangs_tells_no_version() -> None:
    def hanging(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(command, 1)

    assert LocalMachine(hanging).program([sys.executable, "--version"]) == ""
