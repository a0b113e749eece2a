"""The version is the workspace's, in pyproject.toml. Other files have to repeat it; here is where."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

_DISTRIBUTION = re.compile(r'(?m)(^version = ")([^"]+)(")')
_CHART = re.compile(
    r"(?m)(^version: |^appVersion: |^  - name: pyairtable[\w-]*\n(?:    alias: .*\n)?    version: )(\S+)()"
)
_IMAGE_ARGUMENT = re.compile(r"(?m)(^ARG VERSION=)(\S+)()")
_IMAGE_NAME = re.compile(r"(ghcr\.io/pyairtable/(?:\$\$target|services|operator):)(\d+\.\d+\.\d+(?:-[a-z]+\.\d+)?)()")
REPEATED: Mapping[str, re.Pattern[str]] = {
    "pyproject.toml": _DISTRIBUTION,
    "protos/pyproject.toml": _DISTRIBUTION,
    "services/pyproject.toml": _DISTRIBUTION,
    "operators/pyproject.toml": _DISTRIBUTION,
    "laptop/pyproject.toml": _DISTRIBUTION,
    "charts/pyairtable/Chart.yaml": _CHART,
    "charts/pyairtable-lib/Chart.yaml": _CHART,
    "charts/pyairtable-operator/Chart.yaml": _CHART,
    "charts/pyairtable-crds/Chart.yaml": _CHART,
    "Dockerfile": re.compile(f"{_IMAGE_ARGUMENT.pattern}|{_IMAGE_NAME.pattern}"),
    "Makefile": _IMAGE_NAME,
    "tests/e2e/releases.py": _IMAGE_NAME,
}
SEMANTIC = re.compile(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?")
"""Semantic versions that PEP 440 and Helm can both be told."""


def current(root: Path) -> str:
    """The version of the workspace."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def differing(root: Path) -> Iterator[str]:
    """Every place that says another version, or none: ``file: version``."""
    version = current(root)
    for name, pattern in REPEATED.items():
        found = [_version(match) for match in pattern.finditer((root / name).read_text())]
        if not found:
            yield f"{name}: no version"
        yield from (f"{name}: {each}" for each in found if each != version)


def move(root: Path, version: str) -> None:
    """Put another version everywhere; ValueError when it is none."""
    if not SEMANTIC.fullmatch(version):
        raise ValueError(f"{version!r} is no version: give one such as 1.2.3 or 1.2.3-rc.1")
    for name, pattern in REPEATED.items():
        file = root / name
        file.write_text(pattern.sub(lambda match: match[0].replace(_version(match), version), file.read_text()))


def _version(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group and re.match(r"\d", group))
