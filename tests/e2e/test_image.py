"""The images: small, nobody's root, with what uv.lock names and nothing else. Docker builds them; without it they fail
where E2E=required, and are skipped elsewhere.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests import tools

BUILD_SECONDS, RUN_SECONDS = 900, 60
MAX_MEGABYTES = {"services": 150, "operator": 300}
"""What an image may add to its base."""
EXPORTS = {
    "services": ("--package", "pyairtable-mesh", "--extra", "postgresql", "--extra", "telemetry-official"),
    "operator": ("--package", "pyairtable-operator", "--all-extras"),
}
OURS = {
    "services": {"pyairtable-mesh", "pyairtable-protos"},
    "operator": {"pyairtable-mesh", "pyairtable-operator", "pyairtable-protos"},
}
LIST_INSTALLED = """
import json
from importlib.metadata import distributions
print(json.dumps({found.name.lower().replace("_", "-"): found.version for found in distributions()}))
"""
CHECK_A_CONDITION = """
import datetime
from pyairtable_mesh.runtime import authorization
from pyairtable_mesh.runtime.authorization.language.parser import parse
engine = authorization.RelationEngine(parse('''model
  schema 1.1
type user
type document
  relations
    define viewer: [user with young]
condition young(age: int) {
  age < 18
}
'''))
term = authorization.Term("young")
engine.apply(1, [authorization.Change(authorization.Relationship("document:1", "viewer", "user:a", term))])
now = datetime.datetime.now(datetime.UTC).timestamp()
for age in (17, 18):
    given = authorization.Circumstances(now, {"age": age})
    print(engine.check(("document:1", "viewer", "user:a"), given).allowed)
"""
IMAGES = pytest.mark.parametrize("target", OURS)


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    seconds: float

    def run(self, *arguments: str, entrypoint: str = "python", options: tuple[str, ...] = ()) -> str:
        """What a program in it prints, run as the image says; AssertionError when it fails."""
        command = ["docker", "run", "--rm", *options, "--entrypoint", entrypoint, self.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def inspect(self, template: str) -> str:
        command = ["docker", "image", "inspect", "--format", template, self.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def image() -> Callable[[str], Image]:
    """Builds a target, once; the tag is one that only tests use."""
    if missing := _missing():
        (pytest.fail if os.environ.get("E2E") == "required" else pytest.skip)(missing)
    built: dict[str, Image] = {}

    def get(target: str) -> Image:
        if target not in built:
            built[target] = _build(target)
        return built[target]

    return get


def _missing() -> str:
    """What images can't be built without; empty when it is all there."""
    if shutil.which("docker") is None or not _succeeds("docker", "version"):
        return "docker does not answer"
    base = os.environ.get("BASE_IMAGE", "python:3.13-slim")
    if not _succeeds("docker", "image", "inspect", base) and not _succeeds("docker", "pull", base):
        return f"{base} is neither here nor to be pulled: set BASE_IMAGE"
    return ""


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _build(target: str) -> Image:
    name = f"pyairtable-{target}:test"
    base = [f"--build-arg=BASE_IMAGE={value}"] if (value := os.environ.get("BASE_IMAGE")) else []
    secret = f"--secret=id=pip,src={os.environ.get('PIP_CONF', '/dev/null')}"
    command = ["docker", "build", "--target", target, "--tag", name, *base, secret, str(tools.REPOSITORY)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    begun = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Image(name, time.monotonic() - begun)


@IMAGES
def test_size(image: Callable[[str], Image], target: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = Image(os.environ.get("BASE_IMAGE", "python:3.13-slim"), 0.0)
    whole, below = (int(each.inspect("{{.Size}}")) / 1e6 for each in (image(target), base))
    with capsys.disabled():
        seconds = image(target).seconds
        sys.stdout.write(f"\n{target}: {whole:.0f} MB, {whole - below:.0f} above the base, built in {seconds:.1f} s\n")
    assert whole - below <= MAX_MEGABYTES[target]


@IMAGES
def test_what_is_installed_is_what_is_locked(image: Callable[[str], Image], target: str) -> None:
    installed: dict[str, str] = json.loads(image(target).run("-c", LIST_INSTALLED))
    here = {name: version for name, version in installed.items() if name not in OURS[target]}
    assert OURS[target] <= installed.keys()
    assert here.items() <= _bill_of_materials(target).items()
    assert ("xds-protos" in installed) == (target == "operator")


def _bill_of_materials(target: str) -> dict[str, str]:
    """Names and versions that `make sbom` lists for an image."""
    command = ["export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5", *EXPORTS[target]]
    uv = shutil.which("uv") or tools.BIN / "uv"
    done = subprocess.run([uv, *command], cwd=tools.REPOSITORY, capture_output=True, text=True, check=True)
    return {each["name"]: each["version"] for each in json.loads(done.stdout)["components"]}


@IMAGES
def test_nobody_is_root_and_nothing_can_be_installed(image: Callable[[str], Image], target: str) -> None:
    assert image(target).inspect("{{.Config.User}}") == "65532:65532"
    image(target).run("-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is not None)")
    writable = image(target).run("/opt", "/usr", "-writable", "!", "-type", "l", entrypoint="find")
    assert writable == ""


@IMAGES
def test_the_development_issuer_is_not_there(image: Callable[[str], Image], target: str) -> None:
    found = image(target).run(
        "/opt", "/usr", "/var", "/root", "-ipath", "*laptop*", entrypoint="find", options=("--user=0",)
    )
    assert found == ""


@IMAGES
def test_labels(image: Callable[[str], Image], target: str) -> None:
    labels = json.loads(image(target).inspect("{{json .Config.Labels}}"))
    names = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert names >= {"title", "description", "source", "licenses", "version", "revision"}


def test_it_runs_where_only_its_data_can_be_written(image: Callable[[str], Image]) -> None:
    options = ("--read-only", "--cap-drop=ALL", "--tmpfs=/var/lib/pyairtable:uid=65532,gid=65532")
    image("services").run("-m", "pyairtable_mesh", "permission", "migrate", options=options)


def test_conditions_are_evaluated(image: Callable[[str], Image]) -> None:
    assert image("services").run("-c", CHECK_A_CONDITION).split() == ["True", "False"]


def test_one_version_of_uv_installs_everywhere() -> None:
    files = {name: (tools.REPOSITORY / name).read_text() for name in ("Dockerfile", "Makefile")}
    found = {re.search(r"UV_VERSION\s*:?=\s*(\S+)", text)[1] for text in files.values()}  # type: ignore[index]
    assert len(found) == 1
    assert "# syntax=" not in files["Dockerfile"].lower()
