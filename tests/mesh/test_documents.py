"""Every command in the documents for users is run as it stands there, against a running platform."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tools
from tests.mesh.platform import Platform

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "protos/README.md",
    "protos/ARCHITECTURE.md",
)
RUN_BY_OTHER_TESTS = {
    "make run": "test_platform.py starts what it starts",
    'make run ARGS="--instances user=2"': "the fixture of this folder",
    "make test": "this is it",
    "make new-service NAME=greeter": "test_new_service.py",
    "make -C protos format lint breaking": "contract/test_protos_pipeline.py",
    "make -C protos generate": "contract/test_protos_pipeline.py",
    "make -C protos check test-go": "contract/test_protos_pipeline.py",
}


def commands(document: str) -> list[str]:
    """The lines of a document's bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


LINES = [line for document in DOCUMENTS for line in commands(document)]


def test_the_lines_go_on_as_they_are_written(platform: Platform, tmp_path: Path) -> None:
    """One shell for all of them, in their order: a variable set in one line is used in the next."""
    tools.go_client()  # so that the line that builds it finds it in Go's cache
    script = ["set -euo pipefail"]
    for line in LINES:
        if line not in RUN_BY_OTHER_TESTS:
            script += [f"echo '+' {shlex.quote(line)}", here(line, platform)]
    environment = {
        **os.environ,
        "PATH": f"{tools.grpcurl().parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path),
        "PYAIRTABLE_CONTROL_PLANE": platform.address("control-plane"),
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"Alice Adams"') >= 5, done.stdout  # meshctl, grpcurl, Go twice, Python
    assert "pyairtable.user.v1.UserService" in done.stdout


def here(line: str, platform: Platform) -> str:
    """The line with this platform's interpreter, data folder and ports."""
    line = line.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    line = line.replace("127.0.0.1:50061", platform.address("user"))
    line = line.replace("127.0.0.1:18000", platform.address("control-plane"))
    line = line.replace("/tmp/", f"{platform.data}/")
    return re.sub(r"(login|token) --user alice", rf"\1 --user alice --data {platform.data}", line)


@pytest.mark.parametrize("line", sorted({line for line in LINES if line.startswith("make ")}))
def test_make_knows_the_targets(line: str) -> None:
    assert line in RUN_BY_OTHER_TESTS, f"no test runs `{line}`"
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / document).read_text())
    folder = (ROOT / document).parent
    assert [target for target in targets if not (folder / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document: str) -> None:
    """`path/file.py` in backticks is below the repository's top or one of its packages."""
    tops = [ROOT, ROOT / "services/pyairtable_mesh", ROOT / "operators/pyairtable_operator", ROOT / "laptop"]
    tops += [(ROOT / document).parent, ROOT / "protos/generated/python"]
    named = re.findall(r"`([\w/-]+/[\w.-]+\.(?:py|md|sh|binpb))`", (ROOT / document).read_text())
    assert [name for name in named if not any((top / name).exists() for top in tops)] == []
