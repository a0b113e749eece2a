"""Programs in Go that tests call, built where they are missing. Without Go such a test fails, and says so."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
GO_CLIENT = REPOSITORY / "protos/examples/go-client"
BIN = REPOSITORY / ".tools/bin"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"
BUILD_SECONDS = 1200
"""The first build of grpc-go's xDS takes minutes on two cores; Go's cache makes the next a matter of a second."""


def grpcurl() -> Path:
    """grpcurl: that on PATH, else one that is built once into .tools."""
    if found := shutil.which("grpcurl"):
        return Path(found)
    built = BIN / "grpcurl"
    if not built.exists():
        go("install", GRPCURL, folder=REPOSITORY, GOBIN=str(BIN))
    return built


def go_client() -> Path:
    """The example client, built from its present source."""
    built = BIN / "go-client"
    go("build", "-o", str(built), ".", folder=GO_CLIENT)
    return built


def uv() -> Path:
    """uv: that on PATH, else that of `make install`."""
    found = shutil.which("uv", path=f"{os.environ['PATH']}:{BIN}")
    if found is None:
        pytest.fail("uv is neither on PATH nor in .tools/bin, where `make install` puts it")
    return Path(found)


def go(*arguments: str, folder: Path, **environment: str) -> str:
    """Run a go command in a folder; what it printed. It fails the test with that when it fails."""
    program = shutil.which("go")
    if program is None:
        pytest.fail(
            "Go is not on PATH: install Go 1.26 or newer (https://go.dev/dl), these tests build clients with it"
        )
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"go {' '.join(arguments)} in {folder}:\n{done.stdout[-4000:]}")
    return done.stdout
