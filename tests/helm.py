"""Helm 3 and 4, built where they are missing, and charts as they render with them."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import tools

CHARTS = tools.REPOSITORY / "charts"
MESH = CHARTS / "pyairtable"
OPERATOR = CHARTS / "pyairtable-operator"
CRDS = CHARTS / "pyairtable-crds"
KUBERNETES = "1.34"
PACKAGES = {"helm": "helm.sh/helm/v3/cmd/helm@v3.22.0", "helm4": "helm.sh/helm/v4/cmd/helm@v4.3.1"}
HA = ("--values", str(MESH / "values-ha.yaml"))
CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    "ha": (*HA, "--set", "database.existingSecret=databases,telemetry.otlpEndpoint=http://collector.o11y:4317"),
    "bundled": (*HA, "--set", "postgresql.enabled=true,postgresql.password=given"),
    "keys": ("--set-json", 'auth={"jwks": "{\\"keys\\": []}"}'),
}
"""What the tests look at: values by a name."""

Object = dict[str, Any]


def program(name: str = "helm") -> Path:
    """``helm`` (3) or ``helm4``: that on PATH, else one that is built once into .tools."""
    if found := shutil.which(name):
        return Path(found)
    built = tools.BIN / name
    if not built.exists():
        folder = tools.BIN / f"{name}.building"
        tools.go("install", "-trimpath", PACKAGES[name], folder=tools.REPOSITORY, GOBIN=str(folder), CGO_ENABLED="0")
        (folder / "helm").replace(built)
        folder.rmdir()
    return built


def run(*arguments: str | Path, helm: str = "helm", seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller looks at the exit status."""
    return subprocess.run([program(helm), *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def template(values: Sequence[str] = (), *, helm: str = "helm", chart: Path = MESH) -> str:
    """What a chart renders to, in the namespace ``mesh``. AssertionError with Helm's words when it does not."""
    done = run(
        "template", "mesh", chart, "--namespace", "mesh", "--kube-version", f"{KUBERNETES}.0", *values, helm=helm
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(values: Sequence[str] = (), *, helm: str = "helm") -> list[Object]:
    """The same, read."""
    return [found for found in yaml.safe_load_all(template(values, helm=helm)) if found]


def pods(rendered: list[Object]) -> list[tuple[Object, Object]]:
    """The objects that make pods, each with its pod's spec."""
    found = [(each, each["spec"]["template"]["spec"]) for each in rendered if "template" in each.get("spec", {})]
    return found + [(each, each["spec"]) for each in rendered if each["kind"] == "Pod"]
