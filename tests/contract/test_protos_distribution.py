"""The distribution pyairtable-protos, installed as a wheel: alone, and beside PyPI's pyairtable."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"
PACKAGES = sorted(folder.name for folder in (PROTOS / "pyairtable").iterdir())

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not on PATH")


def succeed(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    succeed("uv", "build", "--quiet", "--wheel", "--out-dir", folder, PROTOS, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path, *requirements: str | Path) -> Path:
    """Make an environment with these; gives its interpreter."""
    python = folder / "venv" / "bin" / "python"
    succeed("uv", "venv", "--quiet", folder / "venv", folder=folder)
    succeed("uv", "pip", "install", "--quiet", "--python", python, *requirements, folder=folder)
    return python


IMPORTS = "\n".join(f"from pyairtable.{name}.v1 import {name}_pb2, {name}_pb2_grpc" for name in PACKAGES)


def test_the_wheel_has_no_foreign_modules(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names.isdisjoint({"pyairtable/__init__.py", "buf/__init__.py"})
    assert {"buf/validate/validate_pb2.py", "buf/validate/validate_pb2.pyi"} <= names
    assert {name.split("/")[0] for name in names} == {"buf", "pyairtable"}
    for package in PACKAGES:
        assert {f"pyairtable/{package}/py.typed", f"pyairtable/{package}/v1/__init__.py"} <= names


def test_it_works_alone(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path, wheel)
    succeed(python, "-c", IMPORTS, folder=tmp_path)


def test_it_works_beside_the_other_pyairtable(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path, wheel, "pyairtable==3.5.1")
    succeed(python, "-c", f"{IMPORTS}\nfrom pyairtable import Api\nApi('key')", folder=tmp_path)
