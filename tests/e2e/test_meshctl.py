"""meshctl installs, shows, examines, upgrades and removes a release on a real cluster, with Helm 3 and with Helm 4."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import helm, tools
from tests.e2e import releases
from tests.e2e.releases import INSTALL_SECONDS, RUN_SECONDS, SERVICES

WORKLOADS = {*SERVICES, "pyairtable-operator"}


@dataclass(frozen=True, slots=True)
class Meshctl:
    """The command, on a release in a namespace of its own."""

    namespace: str
    programs: Path
    """A folder that is first on PATH, with the Helm that is meant."""

    def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints; AssertionError when it ends with another code."""
        done = subprocess.run(
            [sys.executable, "-m", "pyairtable_mesh.meshctl", *words, "--namespace", self.namespace],
            cwd=tools.REPOSITORY,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS + RUN_SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def steps(self, *words: str, code: int = 0) -> list[dict[str, str]]:
        """The steps that it tells, as a program reads them."""
        return [json.loads(line) for line in self(*words, "-o", "json", code=code).splitlines()]

    def kubectl(self, *words: str) -> str:
        """What kubectl says in the namespace."""
        return releases.run("kubectl", "--namespace", self.namespace, *words)


@pytest.fixture(params=["helm", "helm4"])
def meshctl(request: pytest.FixtureRequest, images: None, tmp_path: Path) -> Iterator[Meshctl]:
    """meshctl with either Helm; what it has made goes at the end."""
    (tmp_path / "helm").symlink_to(helm.program(request.param))
    with releases.removed(f"mesh-meshctl-{request.param}"):
        yield Meshctl(f"mesh-meshctl-{request.param}", tmp_path)


def test_a_release_from_its_installation_to_its_end(meshctl: Meshctl) -> None:
    findings: list[dict[str, str]] = json.loads(meshctl("check", "--cluster", "-o", "json"))
    assert {"context", "Kubernetes", "rights", "helm"} <= {
        each["subject"] for each in findings if each["state"] == "ok"
    }

    assert {f"deployment/{name}" for name in WORKLOADS} <= _told_ready(meshctl.steps("install"))
    assert "meshctl upgrade" in _failures(meshctl.steps("install", code=1))["release"]

    shown: dict[str, Any] = json.loads(meshctl("status", "--cluster", "-o", "json"))
    assert (shown["release"]["revision"], shown["release"]["status"]) == (1, "deployed")
    assert {each["name"] for each in shown["workloads"] if each["state"] == "ready"} == WORKLOADS
    examined: list[dict[str, str]] = json.loads(meshctl("doctor", "--cluster", "-o", "json"))
    assert {"lease", "mesh", "tokens"} <= {each["subject"] for each in examined if each["state"] == "ok"}

    upgraded = meshctl.steps("upgrade", "--reuse-values", "--set", "services.user.env.PYAIRTABLE_LOG_LEVEL=DEBUG")
    told = [(each["subject"], each["text"]) for each in upgraded]
    assert ("deployment/user", "pods are replaced") in told
    assert ("deployment/audit", "1/1 ready, and unchanged") in told

    removed = meshctl.steps("uninstall", "--yes")
    stays = {name for each in removed if each["subject"] == "stays" for name in each["text"].split(", ")}
    left = meshctl.kubectl("get", "pods,services,deployments,pvc", "--output=name").split()
    assert {name for name in stays if name.startswith("persistentvolumeclaim/")} == set(left)
    assert left


@pytest.mark.parametrize("meshctl", ["helm"], indirect=True)
def test_an_installation_that_fails_says_why_and_an_upgrade_mends_it(meshctl: Meshctl) -> None:
    failed = meshctl.steps("install", "--set", "image.tag=nowhere", "--timeout", "25", code=1)
    reasons = [each["text"] for each in failed if each["subject"] == "deployment/user"]
    assert any("ErrImagePull" in text or "ImagePullBackOff" in text for text in reasons), failed
    assert "meshctl upgrade" in _failures(failed)["release mesh"]
    assert {f"deployment/{name}" for name in SERVICES} <= _failures(
        json.loads(meshctl("doctor", "--cluster", "-o", "json", code=1))
    ).keys()
    assert {f"deployment/{name}" for name in SERVICES} <= _told_ready(
        meshctl.steps("upgrade", "--set", "image.tag=0.1.0")
    )


def _told_ready(steps: list[dict[str, str]]) -> set[str]:
    return {each["subject"] for each in steps if each["state"] == "ok" and " ready" in each["text"]}


def _failures(steps: list[dict[str, str]]) -> dict[str, str]:
    return {each["subject"]: each["nextStep"] for each in steps if each["state"] == "fail"}
