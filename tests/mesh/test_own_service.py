"""A service in a folder outside of the repository, as README.md has it, on nothing but our wheels, joins the mesh."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyairtable_laptop import people
from pyairtable_laptop.folder import DataFolder
from pyairtable_operator.providers import document
from tests import tools
from tests.mesh import joining
from tests.mesh.platform import Platform, is_alive, until

ROOT = tools.REPOSITORY
CLIENT = Path(__file__).with_name("greeter_client.py")
STEP_SECONDS = 300.0
"""For one step of setting up; the slowest downloads packages."""
CALL_SECONDS = 60.0
PROTO = """\
syntax = "proto3";
package greeter.v1;
import "buf/validate/validate.proto";

service GreeterService {
  rpc Greet(GreetRequest) returns (GreetResponse);
}
message GreetRequest {
  string name = 1 [(buf.validate.field).string = {min_len: 1, max_len: 64}];
}
message GreetResponse {
  string greeting = 1;
}
"""


def section() -> str:
    """What README.md says about a service of one's own."""
    return (ROOT / "README.md").read_text().partition("## A service of your own\n")[2].partition("\n## ")[0]


def block(language: str) -> str:
    """The one block of that section in a language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", section(), re.MULTILINE | re.DOTALL)
    return str(found)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=STEP_SECONDS,
        check=False,
    )


def done(*command: str | Path, **environment: str) -> str:
    """What a command prints that must go well."""
    found = run(*command, **environment)
    assert found.returncode == 0, f"{found.args}:\n{found.stdout}{found.stderr}"
    return found.stdout


@dataclass(frozen=True, slots=True)
class Own:
    """The service's folder, and the Python that has our wheels and nothing else of ours."""

    folder: Path
    python: Path

    def command(self, name: str) -> list[str]:
        """README.md's line that joins, for these places and the service `name`."""
        line = block("sh").replace("join greeter", f"join {name}")
        line = line.replace(".venv/bin/python", sys.executable).replace("path/to/its/python", str(self.python))
        return shlex.split(line.replace("service.py", str(self.folder / "service.py")))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """README.md's code in a folder, with generated code beside it and an environment made of wheels."""
    uv = shutil.which("uv", path=f"{tools.BIN}:{os.environ['PATH']}")
    if uv is None:
        pytest.fail("uv is neither on PATH nor in .tools/bin, where `make install` puts it")
    top = tmp_path_factory.mktemp("own")
    for package in ("pyairtable-protos", "pyairtable-mesh"):
        done(uv, "build", "--quiet", "--wheel", "--package", package, "--out-dir", top / "wheels", ROOT)
    python = top / "venv" / "bin" / "python"
    done(uv, "venv", "--quiet", "--python", sys.executable, top / "venv")
    done(uv, "pip", "install", "--quiet", "--python", python, *(top / "wheels").glob("*.whl"))
    folder = top / "greeter"
    (folder / "greeter/v1").mkdir(parents=True)
    (folder / "greeter/v1/greeter.proto").write_text(PROTO)
    (folder / "service.py").write_text(block("python"))
    done(ROOT / "protos/scripts/install-tools.sh", PYTHON=sys.executable)
    includes = [f"-I{place}" for place in (folder, ROOT / "protos/.tools/third_party")]
    outputs = [f"--{kind}={folder}" for kind in ("python_out", "grpc_python_out")]
    done(sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, "greeter/v1/greeter.proto")
    return Own(folder, python)


def joined(own: Own, platform: Platform, name: str) -> contextlib.AbstractContextManager[joining.Joined]:
    """README.md's line on this platform's data folder, until the service takes calls."""
    command = own.command(name)
    at = command.index("--")
    command[at:at] = ["--data", str(platform.data)]
    return joining.started(name, command)


@pytest.fixture(scope="module")
def greeter(own: Own, platform: Platform) -> Iterator[joining.Joined]:
    with joined(own, platform, "greeter") as running:
        yield running


Call = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def call(own: Own, platform: Platform) -> Call:
    """Call ``xds:///greeter`` from a program that runs on the wheels."""

    def run_client(token: str, *names: str) -> list[dict[str, Any]]:
        environment = {**platform.bootstrap("tester"), "PYTHONPATH": str(own.folder)}
        output = done(own.python, CLIENT, token, *names, **environment)
        return [json.loads(line) for line in output.splitlines()]

    return run_client


def test_it_takes_about_twenty_lines() -> None:
    assert len([line for line in block("python").splitlines() if line.strip()]) <= 22


def test_its_environment_has_nothing_of_the_laptop(own: Own) -> None:
    found = run(own.python, "-c", "import pyairtable_laptop")
    assert "No module named 'pyairtable_laptop'" in found.stderr


@pytest.mark.usefixtures("greeter")
def test_others_call_it_by_its_name(platform: Platform, call: Call) -> None:
    assert call(platform.token("alice"), "you") == [{"greeting": f"Hello you, says {people.ALICE.subject}"}]


@pytest.mark.usefixtures("greeter")
def test_bad_input_is_told_by_its_field(platform: Platform, call: Call) -> None:
    broken = {"status": "INVALID_ARGUMENT", "fields": ["name"]}
    assert call(platform.token("alice"), "", "x" * 65) == [broken, broken]


@pytest.mark.usefixtures("greeter")
@pytest.mark.parametrize("token", ["", "nonsense"])
def test_who_has_no_token_is_not_authenticated(call: Call, token: str) -> None:
    assert call(token, "you") == [{"status": "UNAUTHENTICATED", "fields": []}]


def test_the_first_lines_are_to_paste(greeter: joining.Joined, tmp_path: Path) -> None:
    first, *lines = greeter.screen.splitlines()
    assert first == "greeter takes calls as xds:///greeter, and by these lines:"
    login, asking = [line.strip() for line in lines if "meshctl" in line]
    asking = asking.replace("METHOD '{}'", """Greet '{"name": "you"}'""")
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    answer = done("bash", "-c", f"{login} >/dev/null && {asking}", **environment)
    assert json.loads(answer) == {"greeting": f"Hello you, says {people.ALICE.subject}"}


def test_a_second_one_of_the_name_is_refused(greeter: joining.Joined, own: Own, platform: Platform) -> None:
    command = own.command("greeter")
    command[command.index("--") : command.index("--")] = ["--data", str(platform.data)]
    found = run(*command)
    assert (found.returncode, found.stdout) == (1, "")
    assert f"greeter has joined already (process {greeter.join.pid})." in found.stderr


async def test_one_that_dies_is_started_again_and_ctrl_c_takes_it_out(own: Own, platform: Platform) -> None:
    file = DataFolder(platform.data).mesh / "mortal.yaml"

    def endpoints() -> int:
        return sum(len(service.endpoints) for service in document.parse(file.read_bytes()).services)

    with joined(own, platform, "mortal") as running:
        assert endpoints() == 1
        os.kill(running.pid, signal.SIGKILL)
        assert "mortal was ended by SIGKILL; it is started again" in await asyncio.to_thread(running.line)
        await until("mortal to be in the mesh again", lambda: endpoints() == 1)
        running.join.send_signal(signal.SIGINT)
        rest, _ = await asyncio.to_thread(running.join.communicate, timeout=CALL_SECONDS)
        assert running.join.returncode == 0
        assert rest.endswith("mortal has left the mesh.\n")
    assert not file.exists()


async def test_a_join_that_is_killed_takes_its_service_with_it(own: Own, platform: Platform) -> None:
    with joined(own, platform, "orphan") as running:
        running.join.kill()
        await until("the service to end with its supervisor", lambda: not is_alive(running.pid))
    with joined(own, platform, "orphan") as again:
        assert is_alive(again.pid)
