"""The example clients as programs of another team: outside of the repository, on what a release publishes alone."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from release import go_module, versions
from tests import tools

EXAMPLES = tools.REPOSITORY / "protos/examples"
STEP_SECONDS = 600


def published(folder: Path) -> Path:
    """What a release has for clients: wheels under ``python``, a module proxy's tree under ``go``."""
    _done("make", f"PYTHON={sys.executable}", "release-python", "release-protos", f"RELEASE={folder}")
    return folder


def module_version(release: Path) -> str:
    """Publish the Go module once more, under a version that says its content; gives that.

    Go keeps what it has seen under a version for ever, so today's module must not have the name of yesterday's.
    """
    [made] = (release / "go").rglob("*.zip")
    digest = hashlib.sha256(made.read_bytes()).hexdigest()[:12]
    version = f"{versions.current(tools.REPOSITORY)}-test.h{digest}"
    source = tools.REPOSITORY / "protos/generated/go"
    go_module.write(source, version, release / "go", tools.REPOSITORY / "LICENSE")
    return f"v{version}"


def go_client(release: Path, folder: Path) -> Path:
    """The Go client, built with the published module."""
    source = folder / "go-client"
    shutil.copytree(EXAMPLES / "go-client", source, ignore=shutil.ignore_patterns("go-client"))
    version = module_version(release)
    proxy = tools.go("env", "GOPROXY", folder=source).strip()
    environment = {
        "GOPROXY": f"file://{release / 'go'},{proxy}",
        "GONOSUMDB": "github.com/pyairtable/*",
        "GOFLAGS": "-mod=mod",
    }
    tools.go("mod", "edit", f"-dropreplace={go_module.MODULE}", f"-require={go_module.MODULE}@{version}", folder=source)
    tools.go("vet", "./...", f"{go_module.MODULE}/...", folder=source, **environment)
    tools.go("build", "-o", "client", ".", folder=source, **environment)
    return source / "client"


def python_client(release: Path, folder: Path) -> list[str]:
    """The command of the Python client, on the published wheel."""
    source, python = folder / "python-client", folder / "venv/bin/python"
    shutil.copytree(EXAMPLES / "python-client", source, ignore=shutil.ignore_patterns("__pycache__"))
    [wheel] = (release / "python").glob("pyairtable_protos-*.whl")
    _done(tools.uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv")
    _done(tools.uv(), "pip", "install", "--quiet", "--python", python, wheel, "grpcio-status")
    return [str(python), str(source / "client.py")]


def _done(*command: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=tools.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
