"""``make new-service`` in a copy of this repository: what it makes is clean, discovered and called."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyairtable_laptop import people
from tests import tools
from tests.mesh.platform import Platform, started

ROOT = tools.REPOSITORY
IMPORTED = ("services", "laptop", "operators", "protos/generated/python")
NEW = (
    "protos/pyairtable/greeter/v1/greeter.proto",
    "services/pyairtable_mesh/greeter/__init__.py",
    "services/pyairtable_mesh/greeter/app.py",
    "services/pyairtable_mesh/greeter/servicer.py",
    "tests/unit/greeter/test_greeter.py",
)
PYTHON = [name for name in NEW if name.endswith(".py")]
STEP_SECONDS = 600.0
"""For one step; the slowest is mypy without a cache."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the repository in which Python finds its own packages, not those of the repository."""

    root: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )

    def module(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """``python -m`` there."""
        return self.run(sys.executable, "-m", *words)


def output(done: "subprocess.CompletedProcess[str]") -> str:
    """What a command printed that must have gone well."""
    assert done.returncode == 0, f"{done.args}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The repository as it is now, with the tools of protos/ and a new service, greeter."""
    top = tmp_path_factory.mktemp("copy")
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    names = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    for name in names:
        if (ROOT / name).is_file():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, top / name)
    install = ROOT / "protos/scripts/install-tools.sh"
    subprocess.run([install], env={**os.environ, "PYTHON": sys.executable}, check=True)
    (top / "protos/.tools").symlink_to(ROOT / "protos/.tools")
    places = os.pathsep.join(str(top / place) for place in IMPORTED)
    made = Copy(top, {**os.environ, "PYTHONPATH": places, "MYPYPATH": places, "XDG_CONFIG_HOME": str(top / "home")})
    told = output(made.module("pyairtable_laptop", "new-service", "greeter"))
    assert [line.strip() for line in told.splitlines()[: len(NEW)]] == list(NEW)
    return made


def test_its_own_test_passes(copy: Copy) -> None:
    assert "1 passed" in output(copy.module("pytest", "-q", "-p", "no:cacheprovider", "tests/unit/greeter"))


def test_its_code_is_clean(copy: Copy) -> None:
    output(copy.module("ruff", "check", "--no-cache", *PYTHON))
    output(copy.module("ruff", "format", "--no-cache", "--check", *PYTHON))
    output(copy.module("mypy", "-p", "pyairtable_mesh.greeter"))


def test_its_proto_is_clean(copy: Copy) -> None:
    output(copy.run("make", "-C", "protos", "lint", f"PYTHON={sys.executable}"))


@pytest.mark.parametrize("name", ["Greeter", "g", "my-greeter", "9lives", "../greeter", "runtime", "mesh", "class"])
def test_a_bad_name_is_refused_in_words(copy: Copy, name: str) -> None:
    done = copy.module("pyairtable_laptop", "new-service", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {name!r} can't be the name: 2 to 30 lower-case letters and digits")


@pytest.mark.parametrize("name", ["user", "greeter"])
def test_a_name_that_is_taken_is_refused_in_words(copy: Copy, name: str) -> None:
    done = copy.module("pyairtable_laptop", "new-service", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(" is there already; take another name, or remove it\n")


def test_elsewhere_it_is_refused_in_words(copy: Copy, tmp_path: Path) -> None:
    done = Copy(tmp_path, copy.environment).module("pyairtable_laptop", "new-service", "greeter")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {tmp_path} is not the repository: run this in its top folder\n"


@pytest.fixture(scope="module")
def platform(copy: Copy) -> Iterator[Platform]:
    """The platform of the copy: it starts the new service by itself."""
    with started(copy.root / "data", environment=copy.environment) as running:
        yield running


def test_it_is_discovered_served_and_called(copy: Copy, platform: Platform) -> None:
    assert [process["name"] for process in platform.ready["processes"]][-1] == "greeter"
    meshctl, plane = "pyairtable_mesh.meshctl", ("--control-plane", platform.address("control-plane"))
    output(copy.module(meshctl, "login", "--user", "alice", "--data", str(platform.data)))
    services = json.loads(output(copy.module(meshctl, "services", *plane, "-o", "json")))
    assert {service["shortName"] for service in services} >= {"greeter", "user", "permission", "audit"}
    answer = json.loads(output(copy.module(meshctl, "call", *plane, "greeter", "SayHello", '{"name": "you"}')))
    assert answer == {"greeting": f"Hello you, says {people.ALICE.subject}"}
    broken = copy.module(meshctl, "call", *plane, "greeter", "SayHello", "{}")
    assert "INVALID_ARGUMENT" in broken.stderr
    assert "field name: " in broken.stderr
    assert "fail" not in {
        found["state"] for found in json.loads(output(copy.module(meshctl, "doctor", *plane, "-o", "json")))
    }


def test_the_repository_itself_is_as_it_was() -> None:
    assert [name for name in NEW if (ROOT / name).exists()] == []
