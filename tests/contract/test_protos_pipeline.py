"""The pipeline of protos/: two ways that agree, checks that bite, generated code that is not stale."""

import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PROTOS = REPOSITORY / "protos"
KEPT = ("pip_", "uv_", "go", "http_proxy", "https_proxy", "no_proxy", "ssl_")
"""What says where the registries are, however a machine has that."""
COMPILER_LINE = ("// \tprotoc  ", "// - protoc  ")

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="go is not on PATH")


def run(*command: str, folder: Path = PROTOS) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    environment["PYTHON"] = sys.executable
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def succeed(*command: str, folder: Path = PROTOS) -> None:
    done = run(*command, folder=folder)
    assert done.returncode == 0, done.stdout


@dataclass(frozen=True, slots=True)
class Generated:
    """What both ways have made, and the seconds of processor time that each took."""

    buf: Path
    protoc: Path
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    succeed("scripts/install-tools.sh")
    folder = tmp_path_factory.mktemp("generated")
    seconds = {}
    for way in ("generate", "generate-protoc"):
        before = os.times()
        succeed(f"scripts/{way}.sh", str(folder / way))
        after = os.times()
        seconds[way] = after.children_user + after.children_system - before.children_user - before.children_system
    return Generated(folder / "generate", folder / "generate-protoc", seconds)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project to spoil."""
    copy = tmp_path / "protos"
    shutil.copytree(PROTOS, copy, ignore=shutil.ignore_patterns(".tools", "__pycache__", ".work.*"))
    succeed("scripts/install-tools.sh")
    shutil.copytree(PROTOS / ".tools", copy / ".tools", ignore=shutil.ignore_patterns("bin", "venv"))
    (copy / ".tools" / "bin").symlink_to(PROTOS / ".tools" / "bin")
    return copy


def read_files(folder: Path, *patterns: str) -> dict[str, str]:
    """Every file under the folder by its path, without Go's line that names the compiler."""
    return {
        path.relative_to(folder).as_posix(): "".join(
            line for line in path.read_text().splitlines(keepends=True) if not line.startswith(COMPILER_LINE)
        )
        for pattern in patterns
        for path in folder.rglob(pattern)
    }


@pytest.mark.parametrize(
    ("part", "patterns"),
    [("go/pyairtable", ["*.go"]), ("python", ["*.py", "*.pyi", "py.typed"]), ("openapi", ["*.json"])],
    ids=["go", "python", "openapi"],
)
class TestGeneratedCode:
    def test_buf_and_protoc_agree(self, generated: Generated, part: str, patterns: list[str]) -> None:
        from_buf = read_files(generated.buf / part, *patterns)
        assert from_buf
        assert from_buf == read_files(generated.protoc / part, *patterns)

    def test_what_is_checked_in_is_not_stale(self, generated: Generated, part: str, patterns: list[str]) -> None:
        fresh = read_files(generated.buf / part, *patterns)
        checked_in = read_files(PROTOS / "generated" / part, *patterns)
        stale = sorted(name for name in fresh.keys() | checked_in.keys() if fresh.get(name) != checked_in.get(name))
        assert not stale, "run `make generate` in protos/"


def test_the_descriptor_set_is_not_stale(generated: Generated) -> None:
    fresh = (generated.buf / "descriptors.binpb").read_bytes()
    assert fresh == (generated.protoc / "descriptors.binpb").read_bytes()
    assert fresh == (PROTOS / "generated" / "descriptors.binpb").read_bytes(), "run `make generate` in protos/"


def test_generation_takes_less_than_five_seconds(generated: Generated) -> None:
    # Processor time of the two cores that it can use: the clock would measure the other tests. `bench` has the clock.
    assert max(generated.seconds.values()) / 2 < 5, generated.seconds


def test_the_namespaces_have_no_package_of_their_own(generated: Generated) -> None:
    python = generated.buf / "python"
    for namespace in ("pyairtable", "buf", "buf/validate"):
        assert not (python / namespace / "__init__.py").exists()
    for package in (python / "pyairtable").iterdir():
        assert (package / "py.typed").exists()
        assert (package / "v1" / "__init__.py").exists()


@pytest.mark.parametrize("target", ["lint", "breaking", "check", "test-go", "help"])
def test_make_succeeds(target: str) -> None:
    succeed("make", target)


def append(name: str, text: str) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        path = project / name
        path.write_text(path.read_text() + text)

    return edit


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(project: Path) -> None:
        path = project / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return edit


EVENTS = "pyairtable/common/v1/events.proto"


@pytest.mark.parametrize(
    ("edit", "target", "complaint"),
    [
        (replace(EVENTS, "string source = 2;", "string origin = 2;"), "breaking", "origin"),
        (replace(EVENTS, "string source = 2;", "bytes source = 2;"), "breaking", "source"),
        (replace(EVENTS, "rpc Subscribe(", "rpc Follow("), "breaking", "Subscribe"),
        (append(EVENTS, "\nmessage Extra {}\n"), "lint", "Extra"),
        (replace(EVENTS, "  string source = 2;", " string source = 2;"), "lint", "source"),
        (replace(EVENTS, "    (google.api.field_behavior) = OPTIONAL,\n", ""), "lint", "field-behavior-required"),
        (replace(EVENTS, 'pattern: "^', 'pattern: "(^'), "lint", "fails to compile"),
        (append(EVENTS, "\n// Something more.\nmessage Extra {}\n"), "check", "stale"),
        (append("generated/python/pyairtable/common/v1/common_pb2.py", "# edited\n"), "check", "stale"),
        (replace("generated/openapi/pyairtable.json", "3.1.0", "3.1.1"), "check", "stale"),
    ],
    ids=[
        "field-renamed",
        "field-retyped",
        "rpc-removed",
        "no-comment",
        "not-formatted",
        "not-as-the-aips-say",
        "rule-that-does-not-compile",
        "not-generated",
        "generated-code-edited",
        "generated-document-edited",
    ],
)
def test_an_edit_is_refused(project: Path, edit: Callable[[Path], None], target: str, complaint: str) -> None:
    edit(project)
    done = run("make", target, folder=project)
    assert done.returncode != 0
    assert complaint in done.stdout


def test_an_additive_edit_is_taken(project: Path) -> None:
    replace(
        EVENTS,
        "google.protobuf.Timestamp send_time = 3;",
        "google.protobuf.Timestamp send_time = 3;\n  // How many were filtered out.\n  int64 skipped = 4;",
    )(project)
    append(EVENTS, "\n// Something more.\nmessage Extra {}\n")(project)
    succeed("make", "lint", "breaking", "generate", "check", folder=project)


def test_the_tools_come_to_a_bare_machine(tmp_path: Path) -> None:
    """Nothing but Python, Go and the registries: an empty home, no workspace around. Go's build cache may stay."""
    copy = tmp_path / "protos"
    shutil.copytree(PROTOS, copy, ignore=shutil.ignore_patterns(".tools", "__pycache__", ".work.*", "examples"))
    (tmp_path / "home").mkdir()
    caches = run("go", "env", "GOCACHE", "GOMODCACHE").stdout.split()
    programs = [str(Path(shutil.which(name) or name).parent) for name in ("go", "python3")]
    environment = {
        **{name: value for name, value in os.environ.items() if name.lower().startswith(KEPT)},
        "HOME": str(tmp_path / "home"),
        "PATH": ":".join([*programs, "/usr/bin", "/bin"]),
        "GOCACHE": caches[0],
        "GOMODCACHE": caches[1],
    }
    for command in ("scripts/install-tools.sh", "scripts/check.sh"):
        done = subprocess.run([str(copy / command)], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (copy / ".tools/bin").iterdir()} == {
        "api-linter",
        "protoc-gen-connect-openapi",
        "protoc-gen-go",
        "protoc-gen-go-grpc",
    }


def test_watching_generates_whenever_a_proto_changes(project: Path) -> None:
    def generated() -> bytes:
        return (project / "generated" / "descriptors.binpb").read_bytes()

    ends = (" generated\n", "failed; waiting")
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(project / "scripts/watch.sh")]
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as watching:
        assert watching.stdout is not None
        try:
            assert until(watching.stdout, *ends).endswith(" generated\n")
            append(EVENTS, "\n// Something more.\nmessage Extra {}\n")(project)
            assert until(watching.stdout, *ends).endswith(" generated\n")
            assert b"Extra" in generated()
            append(EVENTS, "\nmessage Broken {\n")(project)
            assert "failed; waiting for the next change" in until(watching.stdout, *ends)
            replace(EVENTS, "\nmessage Broken {\n", "\n// More still.\nmessage Another {}\n")(project)
            assert until(watching.stdout, *ends).endswith(" generated\n")
            assert b"Another" in generated()
        finally:
            os.killpg(watching.pid, signal.SIGINT)
    assert not list((project / "generated").glob(".work.*"))


def until(lines: Iterable[str], *words: str) -> str:
    """The next line with one of the words; AssertionError when there is none."""
    line = next((line for line in lines if any(word in line for word in words)), None)
    assert line is not None, f"it ended before it said any of {words}"
    return line


def test_every_exception_to_the_aips_is_needed() -> None:
    """A rule that is disabled for some files is broken by one of them."""
    protos = sorted(path.relative_to(PROTOS).as_posix() for path in (PROTOS / "pyairtable").rglob("*.proto"))
    linter = [str(PROTOS / ".tools/bin/api-linter"), "--proto-path", ".tools/third_party", "--output-format", "json"]
    broken = {
        (file["file_path"], problem["rule_id"])
        for file in json.loads(run(*linter, *protos).stdout)
        for problem in file["problems"]
    }
    idle = [
        (entry.get("included_paths", "everywhere"), rule)
        for entry in yaml.safe_load((PROTOS / "api-linter.yaml").read_text())
        for rule in entry["disabled_rules"]
        if not any(
            rule == found and any(fnmatch.fnmatch(path, each) for each in entry.get("included_paths", ["*"]))
            for path, found in broken
        )
    ]
    assert not idle


def test_versions_are_those_of_the_workspace() -> None:
    lines = (PROTOS / "scripts" / "versions.env").read_text().splitlines()
    pinned = dict(line.split("=") for line in lines if not line.startswith("#"))
    locked = {
        package["name"]: package.get("version")
        for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    }
    assert {
        "buf-bin": pinned["BUF_VERSION"],
        "googleapis-common-protos": pinned["GOOGLEAPIS_VERSION"],
        "grpcio-tools": pinned["GRPC_TOOLS_VERSION"],
        "mypy-protobuf": pinned["MYPY_PROTOBUF_VERSION"],
    }.items() <= locked.items()
