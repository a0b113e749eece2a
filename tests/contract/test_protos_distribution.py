"""The distribution pyairtable-protos, installed as a wheel: alone, and beside PyPI's pyairtable."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from tests import tools

PROTOS = Path(__file__).parents[2] / "protos"
PACKAGES = sorted(folder.name for folder in (PROTOS / "pyairtable").iterdir())


def succeed(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    succeed(tools.uv(), "build", "--quiet", "--wheel", "--out-dir", folder, PROTOS, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def install(folder: Path, *requirements: str | Path) -> Path:
    """Make an environment with these; gives its interpreter."""
    python = folder / "venv" / "bin" / "python"
    succeed(tools.uv(), "venv", "--quiet", folder / "venv", folder=folder)
    succeed(tools.uv(), "pip", "install", "--quiet", "--python", python, *requirements, folder=folder)
    return python


# What a typed program of another team has: messages, a stub, a servicer of its own.
CONSUMER = """
from collections.abc import AsyncIterator
from typing import Any

import grpc

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc, common_pb2, common_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc


class Servicer(common_pb2_grpc.DiagnosticsServiceServicer):
    async def GetHealthReport(
        self,
        request: common_pb2.GetHealthReportRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> common_pb2.HealthReport:
        return common_pb2.HealthReport(state=common_pb2.HEALTH_STATE_HEALTHY)

    async def GetServiceInfo(
        self,
        request: common_pb2.GetServiceInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> common_pb2.ServiceInfo:
        return common_pb2.ServiceInfo(service="mine")


async def name(channel: grpc.aio.Channel) -> str:
    user: user_pb2.User = await user_pb2_grpc.UserServiceStub(channel).GetMe(user_pb2.GetMeRequest(), timeout=1)
    return user.display_name


async def actions(channel: grpc.aio.Channel) -> AsyncIterator[str]:
    async for some in audit_pb2_grpc.AuditServiceStub(channel).TailAuditEvents(audit_pb2.TailAuditEventsRequest()):
        for event in some.audit_events:
            yield event.action


def serve(server: grpc.aio.Server) -> None:
    common_pb2_grpc.add_DiagnosticsServiceServicer_to_server(Servicer(), server)
"""


def test_a_typed_consumer_passes_mypy_strict(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path, wheel, "mypy==2.4.1", "types-grpcio==1.85.0.20261028", "types-protobuf")
    (tmp_path / "consumer.py").write_text(CONSUMER)
    assert "Success" in succeed(python, "-m", "mypy", "--strict", "consumer.py", folder=tmp_path)
    (tmp_path / "consumer.py").write_text(CONSUMER.replace("user.display_name", "user.display_nam"))
    done = subprocess.run(
        [python, "-m", "mypy", "--strict", "consumer.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert 'no attribute "display_nam"' in done.stdout


def test_the_example_passes_mypy_strict(wheel: Path, tmp_path: Path) -> None:
    python = install(
        tmp_path, wheel, "mypy==2.4.1", "types-grpcio==1.85.0.20261028", "types-protobuf", "types-grpcio-status"
    )
    example = PROTOS / "examples" / "python-client"
    succeed(python, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "client.py", folder=example)


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
