"""What the commands print about a release in a cluster, in each form; fake helm and kubectl answer."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tools
from tests.unit.meshctl import programs
from tests.unit.meshctl.fakes import endpoint, invoke, platform, service
from tests.unit.meshctl.programs import MANIFEST, recorded, release

CHART = ("--chart", "charts/pyairtable")
COMMANDS = {
    "cluster_status": ("status", "--cluster"),
    "cluster_check": ("check", "--cluster"),
    "cluster_doctor": ("doctor", "--cluster"),
    "upgrade": ("upgrade", *CHART),
    "uninstall": ("uninstall", "--yes"),
}
FAILING = {"cluster_doctor", "upgrade"}
FORMS = [("table", "txt"), ("json", "json"), ("yaml", "yaml")]


@pytest.fixture
def ill_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> programs.Programs:
    """A release whose upgrade does not come to an end."""
    monkeypatch.chdir(tools.REPOSITORY)
    made = programs.put_on_path(tmp_path, monkeypatch)
    programs.healthy_cluster(made, installed=release(2, defaults={"replicas": 1}))
    made.kubectl.answer("get deployments,statefulsets,jobs,pods", recorded("workloads"))
    made.kubectl.answer("get events --field-selector=type=Warning", recorded("events"))
    made.kubectl.answer("logs --container", "PYAIRTABLE_LOG_LEVEL: Expected one of DEBUG, INFO, WARNING, ERROR\n")
    made.kubectl.answer("logs --previous", "unable to retrieve container logs for containerd://bec70cf222143\n")
    made.kubectl.answer("get crds", "customresourcedefinition.apiextensions.k8s.io/trafficpolicies.mesh.pyairtable.io")
    made.helm.answer("upgrade", stderr="Error: UPGRADE FAILED: context deadline exceeded\n", code=1)
    planned = release(3, manifest=MANIFEST.replace("services:1", "services:2"), defaults={"replicas": 3})
    made.helm.answer("upgrade --dry-run=server", planned)
    return made


@pytest.mark.parametrize(("form", "suffix"), FORMS)
@pytest.mark.parametrize("name", COMMANDS)
def test_output(
    name: str, form: str, suffix: str, golden: Callable[[str, str], None], ill_release: programs.Programs
) -> None:
    mesh = platform(service("permission", endpoint("10.0.0.7:50051")), service("user"))
    done = invoke(mesh, *COMMANDS[name], "-o", form, program=ill_release.run)
    assert (done.exit_code, done.stderr) == (int(name in FAILING), "")
    golden(f"{name}.{suffix}", done.stdout)


@pytest.mark.parametrize(("form", "suffix"), FORMS)
def test_installation(
    form: str, suffix: str, golden: Callable[[str, str], None], ill_release: programs.Programs
) -> None:
    programs.healthy_cluster(ill_release)
    done = invoke(platform(), "install", *CHART, "-o", form, program=ill_release.run)
    assert (done.exit_code, done.stderr) == (0, "")
    golden(f"install.{suffix}", re.sub(r"after \d+ s", "after 0 s", done.stdout))
