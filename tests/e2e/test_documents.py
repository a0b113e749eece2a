"""The commands that the README has for a cluster, run as they stand there."""

import re
import subprocess

import pytest

from tests import tools
from tests.e2e import releases
from tests.e2e.releases import BUILD_SECONDS

BLOCKS = re.compile(r"^```bash kubernetes\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_BY_OTHERS = {"make cluster": "`make e2e` did", "make load": "the fixture of these tests did"}


def test_the_lines_for_a_cluster_work_as_they_are_written(images: None) -> None:
    readme = (tools.REPOSITORY / "README.md").read_text()
    lines = [line for block in BLOCKS.findall(readme) for line in block.splitlines()]
    assert set(RUN_BY_OTHERS) <= set(lines)
    script = "\n".join(["set -e", *(line for line in lines if line not in RUN_BY_OTHERS)])
    with releases.removed("pyairtable"):
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tools.REPOSITORY,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Succeeded" in done.stdout


@pytest.mark.parametrize("target", sorted(RUN_BY_OTHERS))
def test_make_knows_them(target: str) -> None:
    done = subprocess.run(["make", "-n", target.split()[1]], cwd=tools.REPOSITORY, capture_output=True, check=False)
    assert done.returncode == 0
