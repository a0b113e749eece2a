"""The command as a process: its help comes fast, every command is there, faults are told in words."""

import json
import subprocess
import sys
import time

import click
import click.testing
import pytest

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl.app import COMMANDS, cli, main
from tests.unit.meshctl.fakes import PLANE, FakeMesh, endpoint, invoke, service


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_begins_as_the_overview_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    done = invoke(FakeMesh(), name, "--help")
    assert (done.exit_code, f"meshctl {name}" in done.stdout or f"cli {name}" in done.stdout) == (0, True)


def test_the_overview_needs_neither_grpc_nor_rich() -> None:
    program = (
        "import sys; from pyairtable_mesh.meshctl.app import cli; cli(['--help'], standalone_mode=False);"
        "sys.exit(bool({'grpc', 'rich', 'yaml', 'google.protobuf', 'jwt', 'pyhelm3'} & sys.modules.keys()))"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Exit codes:" in done.stdout
    assert time.perf_counter() - begun < 2.0  # 0.1 s on an idle machine


def test_an_unknown_command_is_told() -> None:
    done = invoke(FakeMesh(), "frobnicate")
    assert (done.exit_code, "No such command" in done.stderr) == (2, True)


def test_a_fault_of_meshctl_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(**_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(cli, "main", faulty)
    monkeypatch.delenv("PYAIRTABLE_DEBUG", raising=False)
    with pytest.raises(SystemExit, match="1"):
        main()
    told = capsys.readouterr().err
    assert "meshctl has a fault of its own (ZeroDivisionError)" in told
    assert "secret" not in told


def test_watching_shows_the_state_again_after_each_change() -> None:
    user, mesh = service("user", endpoint("127.0.0.1:50061")), FakeMesh()
    changes = [
        mesh_pb2.WatchStatusResponse(changes=[mesh_pb2.StatusChange(service=user)], initial=True),
        mesh_pb2.WatchStatusResponse(changes=[mesh_pb2.StatusChange(removed_name=user.name)]),
    ]
    mesh.serve(PLANE, "WatchStatus", *changes)
    done = invoke(mesh, "status", "--watch", "-o", "json")
    assert [len(json.loads(line)["services"]) for line in done.stdout.splitlines()] == [1, 0]
    assert invoke(mesh, "status", "--watch").stdout.count("Control plane") == 2


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = FakeMesh()

    def interrupted(address: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeMesh, "connect", lambda _self, address: interrupted(address))
    assert invoke(mesh, "services").exit_code == 130
