"""What every test here stands on: a cluster that answers, and images that were built and brought to its nodes."""

import os
import shutil
import subprocess

import pytest

from tests.e2e import releases


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """A kind cluster: without one the tests say so, and fail where E2E=required."""
    if missing := _missing():
        words = f"no kind cluster answers ({missing}): make one with `make cluster`"
        (pytest.fail if os.environ.get("E2E") == "required" else pytest.skip)(words)


def _missing() -> str:
    for program in ("docker", "kind", "kubectl"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH"
    asked = subprocess.run(["kubectl", "get", "--raw=/readyz"], capture_output=True, text=True, check=False)
    return "" if asked.returncode == 0 else asked.stderr.strip() or "kubectl get --raw=/readyz failed"


@pytest.fixture(scope="session")
def images(cluster: None) -> None:
    """Both images as the chart names them, on every node."""
    releases.make("load")


@pytest.fixture(scope="session")
def postgresql_image(cluster: None) -> None:
    """The PostgreSQL of tests, where the official image may be out of reach."""
    releases.build_and_load_postgresql()
