"""`skaffold run`, and an edit under `skaffold dev`: the change is live in the pod, without a new image."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tools
from tests.e2e import releases
from tests.e2e.releases import BUILD_SECONDS, SERVICES, SERVICES_IMAGE, run
from tests.mesh.platform import until

NAMESPACE = "pyairtable"
"""The one that skaffold.yaml names."""
EDITED = Path("services/pyairtable_mesh/permission/servicer.py")
WORDS, LISTENS = "edited while skaffold dev runs", "permission listens on"


@pytest.fixture(scope="module")
def skaffold() -> str:
    program = shutil.which("skaffold", path=f"{os.environ['PATH']}:{tools.BIN}")
    if program is None:
        words = "skaffold is neither on PATH nor in .tools/bin: `make skaffold` puts it there"
        (pytest.fail if os.environ.get("E2E") == "required" else pytest.skip)(words)
    return program


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git has of this repository, which a test may edit."""
    names = run("git", "-C", tools.REPOSITORY, "ls-files", "-z").split("\0")
    for name in filter(None, names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tools.REPOSITORY / name, tmp_path / name, follow_symlinks=False)
    return tmp_path


@pytest.fixture
def namespace() -> Iterator[str]:
    with releases.removed(NAMESPACE):
        yield NAMESPACE


def test_skaffold_run_deploys_what_answers(skaffold: str, checkout: Path, namespace: str) -> None:
    flags = ("--filename", checkout / "skaffold.yaml", "--port-forward=off")
    done = subprocess.run(
        [skaffold, "run", *flags], cwd=checkout, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    images = run(
        "kubectl", "--namespace", namespace, "get", "pods", "--output=jsonpath={.items[*].spec.containers[*].image}"
    )
    assert images.count("ghcr.io/pyairtable/services:") == len(SERVICES)
    assert SERVICES_IMAGE not in images
    assert "Succeeded" in run("helm", "test", "mesh", "--namespace", namespace, seconds=240)


async def test_an_edit_under_skaffold_dev_is_live(skaffold: str, checkout: Path, namespace: str) -> None:
    log = checkout.parent / "skaffold-dev.log"
    flags = ("--profile", "dev", "--port-forward=off")
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(skaffold, "dev", *flags, cwd=checkout, stdout=out, stderr=out)
    try:

        def watches() -> bool:
            assert process.returncode is None, log.read_text()[-4000:]
            return "Watching for changes" in log.read_text()

        await until("skaffold dev to watch", watches, seconds=BUILD_SECONDS)
        pods = _pods(namespace)
        source = checkout / EDITED
        source.write_text(f'{source.read_text()}\nprint("{WORDS}", flush=True)\n')
        await until("the edited service to listen", lambda: _restarted(namespace))
        assert _pods(namespace) == pods
    finally:
        process.terminate()
        await process.wait()


def _pods(namespace: str) -> list[str]:
    return sorted(run("kubectl", "--namespace", namespace, "get", "pods", "--output=name").split())


def _restarted(namespace: str) -> bool:
    log = run("kubectl", "--namespace", namespace, "logs", "deployment/permission", "--tail=100")
    _, edited, after = log.rpartition(WORDS)
    return bool(edited) and LISTENS in after
