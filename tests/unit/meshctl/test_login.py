"""The development issuer is a program; here a fake one takes its place."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyairtable_mesh.meshctl import login
from tests.unit.meshctl.fakes import ALICE, TENANT, FakeMesh, invoke, token


class FakeIssuer:
    def __init__(self, returncode: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.commands: list[list[str]] = []
        self._done = subprocess.CompletedProcess([], returncode, stdout, stderr)

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        return self._done


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "ISSUER", "pytest")


def test_a_login_keeps_the_token(tmp_path: Path) -> None:
    issuer, home = FakeIssuer(stdout=token() + "\n"), {"XDG_CONFIG_HOME": str(tmp_path)}
    done = invoke(FakeMesh(), "login", "--user", "alice", "--data", str(tmp_path), variables=home, program=issuer)
    assert (done.exit_code, done.stdout) == (
        0,
        f"Logged in as alice: {ALICE} in {TENANT}, until 2026-03-02 00:00 UTC.\n",
    )
    assert issuer.commands == [
        [sys.executable, "-m", "pytest.issuer", "token", "--user", "alice", "--data", str(tmp_path)]
    ]
    assert invoke(FakeMesh(), "login", "--user", "alice", "--show", variables=home).stdout == token() + "\n"
    assert invoke(FakeMesh(), "logout", variables=home).stdout == "Forgot alice.\n"
    assert invoke(FakeMesh(), "logout", variables=home).stdout == "There was nothing to forget.\n"


def test_the_tenant_is_passed_on(tmp_path: Path) -> None:
    issuer, home = FakeIssuer(stdout=token()), {"XDG_CONFIG_HOME": str(tmp_path)}
    arguments = ("login", "--user", "alice", "--data", str(tmp_path), "--tenant", TENANT)
    assert invoke(FakeMesh(), *arguments, variables=home, program=issuer).exit_code == 0
    assert issuer.commands[0][-2:] == ["--tenant", TENANT]


def test_what_the_issuer_says_is_told(tmp_path: Path) -> None:
    issuer = FakeIssuer(2, stderr="Usage: ...\n\nError: Invalid value for --user: give an id\n")
    done = invoke(FakeMesh(), "login", "--user", "dave", "--data", str(tmp_path), program=issuer)
    assert done.exit_code == 1
    assert "The development issuer gave no token for dave." in done.stderr
    assert "Invalid value for --user: give an id" in done.stderr


def test_a_folder_without_keys_is_told_before_the_issuer_makes_new_ones(tmp_path: Path) -> None:
    issuer = FakeIssuer()
    done = invoke(FakeMesh(), "login", "--user", "alice", "--data", str(tmp_path / "none"), program=issuer)
    assert (done.exit_code, issuer.commands) == (1, [])
    assert "There is no data folder" in done.stderr


def test_a_release_has_no_issuer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(login, "ISSUER", "not_installed_anywhere")
    done = invoke(FakeMesh(), "login", "--user", "alice", "--data", str(tmp_path))
    assert done.exit_code == 1
    assert "The development issuer is not installed here" in done.stderr
    assert "PYAIRTABLE_TOKEN" in done.stderr
