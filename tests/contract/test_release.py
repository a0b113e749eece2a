"""A release: what it has, and that versions and changelog go together."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import date
from pathlib import Path

import pytest
import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from release import changelog, go_module, versions
from tests import tools

ROOT = tools.REPOSITORY
MAKE_SECONDS = 1800


def make(*words: str) -> str:
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *words],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=MAKE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a dry run leaves behind."""
    folder = tmp_path_factory.mktemp("release")
    make("release", "DRY_RUN=1", f"RELEASE={folder}")
    return folder


def test_a_dry_run_has_everything(release: Path) -> None:
    version = versions.current(ROOT)
    packages = ("protos", "mesh", "operator")
    module = f"go/{go_module.MODULE}/@v/v{version}"
    expected = {
        *(f"python/pyairtable_{name}-{version}-py3-none-any.whl" for name in packages),
        *(f"python/pyairtable_{name}-{version}.tar.gz" for name in packages),
        *(f"{module}.{kind}" for kind in ("info", "mod", "zip")),
        f"go/{go_module.MODULE}/@v/list",
        f"pyairtable-{version}.binpb",
        f"pyairtable-{version}.openapi.json",
        *(f"charts/{name}-{version}.tgz" for name in ("pyairtable", "pyairtable-operator", "pyairtable-crds")),
        "images.txt",
        *(f"sbom/{name}.cdx.json" for name in ("services", "operator")),
        "notes.md",
        "SHA256SUMS",
    }
    assert {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()} == expected


def test_its_checksums_hold(release: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=release, check=True)


def test_its_parts_can_be_read(release: Path) -> None:
    version = versions.current(ROOT)
    described = FileDescriptorSet.FromString((release / f"pyairtable-{version}.binpb").read_bytes())
    ours = [file for file in described.file if file.package.startswith("pyairtable.")]
    assert ours
    assert all(file.source_code_info.location for file in ours)
    assert json.loads((release / f"pyairtable-{version}.openapi.json").read_text())["openapi"].startswith("3.1.")
    for name in ("services", "operator"):
        parts = json.loads((release / f"sbom/{name}.cdx.json").read_text())
        assert {"grpcio", "protobuf"} <= {component["name"] for component in parts["components"]}
    with tarfile.open(release / f"charts/pyairtable-{version}.tgz") as chart:
        stated = yaml.safe_load(chart.extractfile("pyairtable/Chart.yaml") or b"")
    assert (stated["version"], stated["appVersion"]) == (version, version)
    assert (release / "images.txt").read_text().split() == [
        word
        for image in ("services", "operator")
        for word in (f"ghcr.io/pyairtable/{image}:{version}", "linux/amd64,linux/arm64")
    ]


def test_a_dry_run_of_publishing_says_what_it_would_send(release: Path) -> None:
    told = make("release-publish", "DRY_RUN=1", f"RELEASE={release}")
    assert told.startswith("would publish:\n")
    assert f"ghcr.io/pyairtable/services:{versions.current(ROOT)}\n" in told


def test_a_tag_of_another_version_is_refused(tmp_path: Path) -> None:
    words = ["make", f"PYTHON={sys.executable}", "release-check", "TAG=v99.0.0", f"RELEASE={tmp_path / 'release'}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the tag is v99.0.0, the version " in done.stdout


def test_versions_agree() -> None:
    assert list(versions.differing(ROOT)) == []


def test_no_version_is_forgotten() -> None:
    """Whoever writes the version into another file has to name that file in release/versions.py."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    exact = re.compile(rf"(?<![\d.]){re.escape(versions.current(ROOT))}(?![\d.])")
    where = re.compile(
        r"(^|/)(pyproject\.toml|Chart\.yaml|Makefile|.*\.mk|Dockerfile|skaffold\.yaml|values.*\.yaml|.*\.tpl)$"
    )
    named = {name for name in tracked if where.search(name) and exact.search((ROOT / name).read_text())}
    assert named <= versions.REPEATED.keys()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that say the version."""
    for name in versions.REPEATED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_version_is_moved_everywhere(copy: Path) -> None:
    before = versions.current(copy)
    versions.move(copy, "99.1.0-rc.2")
    assert (versions.current(copy), list(versions.differing(copy))) == ("99.1.0-rc.2", [])
    changed = (copy / "charts/pyairtable/Chart.yaml").read_text()
    assert changed.count("99.1.0-rc.2") == (ROOT / "charts/pyairtable/Chart.yaml").read_text().count(f" {before}\n")


def test_a_file_left_behind_is_named(copy: Path) -> None:
    chart = copy / "charts/pyairtable/Chart.yaml"
    chart.write_text(chart.read_text().replace(f"appVersion: {versions.current(copy)}", "appVersion: 98.0.0"))
    assert list(versions.differing(copy)) == ["charts/pyairtable/Chart.yaml: 98.0.0"]


@pytest.mark.parametrize("version", ["", "v1.0.0", "1.0", "1.0.0-nightly", "1.0.0; rm"])
def test_what_is_no_version_is_refused(copy: Path, version: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        versions.move(copy, version)


CHANGES = """# Changelog

## Unreleased

- A thing.

## 1.0.0 (2026-01-02)

- First.
"""


def test_a_section_of_the_changelog() -> None:
    assert changelog.section(CHANGES, "1.0.0") == "- First.\n"
    assert changelog.section(CHANGES, "Unreleased") == "- A thing.\n"
    with pytest.raises(ValueError, match=r"no section `## 2\.0\.0`"):
        changelog.section(CHANGES, "2.0.0")


def test_what_is_unreleased_becomes_a_version() -> None:
    closed = changelog.close(CHANGES, "1.1.0", date(2026, 2, 3))
    assert "## Unreleased\n\n## 1.1.0 (2026-02-03)\n\n- A thing.\n\n## 1.0.0" in closed
    with pytest.raises(ValueError, match="Unreleased"):
        changelog.close(closed, "1.2.0", date(2026, 2, 4))


def test_the_go_module_is_the_same_whenever_it_is_made(release: Path, tmp_path: Path) -> None:
    version = versions.current(ROOT)
    again = go_module.write(ROOT / "protos/generated/go", version, tmp_path, ROOT / "LICENSE")
    assert again.read_bytes() == (release / "go" / again.relative_to(tmp_path)).read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert f"{go_module.MODULE}@v{version}/go.mod" in archive.namelist()


@pytest.mark.parametrize("workflow", ["ci.yml", "release.yml"])
def test_every_step_of_a_workflow_is_a_make_target(workflow: str) -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    quick = jobs.get("quick", {}).get("strategy", {}).get("matrix", {}).get("target", [])
    lines = [command for command in commands if "matrix" not in command] + [f"make {target}" for target in quick]
    makefiles = (ROOT / "Makefile").read_text() + (ROOT / "release.mk").read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):(?!=)", makefiles, re.MULTILINE))
    assert lines
    assert [line for line in lines if line.split()[0] != "make" or line.split()[1] not in targets] == []
