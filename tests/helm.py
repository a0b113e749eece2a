"""Helm 3 and 4, built where they are missing, and charts as they render with them."""

import re
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
LIBRARY = CHARTS / "pyairtable-lib"
KUBERNETES = "1.34"
KUBE_SCORE = "github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
PACKAGES = {"helm": "helm.sh/helm/v3/cmd/helm@v3.22.0", "helm4": "helm.sh/helm/v4/cmd/helm@v4.3.1"}
HA = ("--values", str(MESH / "values-ha.yaml"))
CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    "ha": (*HA, "--set", "database.existingSecret=databases,telemetry.otlpEndpoint=http://collector.o11y:4317"),
    "bundled": (*HA, "--set", "postgresql.enabled=true"),
    "monitored": ("--set", "podMonitor.enabled=true,rules.enabled=true,dashboards.enabled=true"),
    "keys": ("--set-json", 'auth={"jwks": "{\\"keys\\": []}"}'),
}
"""What the tests look at: values by a name."""
_MADE = re.compile(r"(?<=\")[A-Za-z0-9]{32}(?=\"$)|(?<=//mesh:)[A-Za-z0-9]{32}(?=@)", re.MULTILINE)
"""Secrets that each rendering makes anew."""

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


def kube_score() -> Path:
    """kube-score, which looks at rendered objects: that on PATH, else one that is built once into .tools."""
    if found := shutil.which("kube-score"):
        return Path(found)
    built = tools.BIN / "kube-score"
    if not built.exists():
        tools.go("install", "-trimpath", KUBE_SCORE, folder=tools.REPOSITORY, GOBIN=str(tools.BIN), CGO_ENABLED="0")
    return built


def run(*arguments: str | Path, helm: str = "helm", seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller looks at the exit status."""
    return subprocess.run([program(helm), *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def template(values: Sequence[str] = (), *, helm: str = "helm", chart: Path = MESH) -> str:
    """What a chart renders to, in the namespace ``mesh``, with ``made`` for random secrets.

    AssertionError with Helm's words when it does not.
    """
    done = run(
        "template", "mesh", chart, "--namespace", "mesh", "--kube-version", f"{KUBERNETES}.0", *values, helm=helm
    )
    assert done.returncode == 0, done.stderr
    return _MADE.sub("made", done.stdout)


def objects(values: Sequence[str] = (), *, helm: str = "helm") -> list[Object]:
    """The same, read."""
    return [found for found in yaml.safe_load_all(template(values, helm=helm)) if found]


def pods(rendered: list[Object]) -> list[tuple[Object, Object]]:
    """The objects that make pods, each with its pod's spec."""
    found = [(each, each["spec"]["template"]["spec"]) for each in rendered if "template" in each.get("spec", {})]
    return found + [(each, each["spec"]) for each in rendered if each["kind"] == "Pod"]


def notes(values: Sequence[str], folder: Path) -> str:
    """What Helm says after an installation, rendered without a cluster from a copy of the chart in `folder`."""
    chart = folder / MESH.name
    shutil.copytree(MESH, chart)
    templates = chart / "templates"
    text = (templates / "NOTES.txt").read_text()
    (templates / "_notes.tpl").write_text(f'{{{{- define "notes" -}}}}\n{text}{{{{- end }}}}\n')
    (templates / "notes.yaml").write_text(
        'kind: Notes\nmetadata: {name: notes}\ntext: {{ include "notes" . | toJson }}\n'
    )
    rendered = yaml.safe_load(template((*values, "--show-only", "templates/notes.yaml"), chart=chart))
    return str(rendered["text"]).strip() + "\n"
