"""OpenFGA as a peer: a pinned version from the Go module proxy, in a process of its own, with its in-memory store.

Its messages are made from what the server says of itself by reflection.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bench import load
from bench.measure import BenchmarkError, Process
from pyairtable_laptop import ports

VERSION = "v1.22.1"
SERVICE = "openfga.v1.OpenFGAService"
INSTALL_SECONDS, START_SECONDS = 1_800.0, 30.0
TUPLES_OF_A_WRITE = 100
_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pyairtable" / f"openfga-{VERSION}"
Tuple = tuple[str, str, str]
"""(object, relation, user)."""


def installed() -> Path | None:
    """The program, if it was built before."""
    program = _FOLDER / "openfga"
    return program if program.is_file() else None


def install() -> Path:
    """The program, built if need be, which takes minutes; BenchmarkError where it cannot be."""
    if (program := installed()) is not None:
        return program
    if shutil.which("go") is None:
        raise BenchmarkError("go is not on PATH: install Go from https://go.dev/dl or your distribution")
    command = ["go", "install", f"github.com/openfga/openfga/cmd/openfga@{VERSION}"]
    try:
        subprocess.run(command, env={**os.environ, "GOBIN": str(_FOLDER)}, check=True, timeout=INSTALL_SECONDS)
    except subprocess.SubprocessError as error:
        raise BenchmarkError(f"OpenFGA could not be built: {error}") from error
    return _FOLDER / "openfga"


class Server:
    """A running OpenFGA."""

    def __init__(self, running: Process, address: str, channel: grpc.Channel) -> None:
        self.process = running
        self.address = address
        self._channel = channel
        self._pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def message(self, name: str, fields: Mapping[str, Any]) -> Any:
        """A message of the API from its JSON form."""
        kind = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"openfga.v1.{name}"))
        return json_format.ParseDict(dict(fields), kind())

    def call(self, method: str, request: bytes) -> Any:
        """The answer to a request."""
        kind = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"openfga.v1.{method}Response"))
        answer: Any = self._channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=kind.FromString)
        return answer(request, timeout=load.CALL_SECONDS)

    def ask(self, method: str, fields: Mapping[str, Any]) -> Any:
        """The answer to a request in its JSON form."""
        return self.call(method, self.message(f"{method}Request", fields).SerializeToString())

    def store(self, types: Sequence[Mapping[str, Any]], tuples: Sequence[Tuple]) -> "Store":
        """A new store with a model and relationships."""
        identifier = self.ask("CreateStore", {"name": "bench"}).id
        model = {"store_id": identifier, "schema_version": "1.1", "type_definitions": types}
        store = Store(self, identifier, self.ask("WriteAuthorizationModel", model).authorization_model_id)
        for begin in range(0, len(tuples), TUPLES_OF_A_WRITE):
            keys = [_key(each) for each in tuples[begin : begin + TUPLES_OF_A_WRITE]]
            self.ask("Write", {**store.named, "writes": {"tuple_keys": keys}})
        return store


@dataclass(frozen=True, slots=True)
class Store:
    """A model and its relationships in a server."""

    server: Server
    id: str
    model: str

    @property
    def named(self) -> dict[str, Any]:
        """The fields of a request that name it."""
        return {"store_id": self.id, "authorization_model_id": self.model}

    def check(self, question: Tuple) -> bytes:
        """The request of a Check."""
        return self._request("CheckRequest", {"tuple_key": _key(question)})

    def batch(self, questions: Sequence[Tuple]) -> bytes:
        """The request of a BatchCheck."""
        checks = [{"tuple_key": _key(each), "correlation_id": str(index)} for index, each in enumerate(questions)]
        return self._request("BatchCheckRequest", {"checks": checks})

    def objects(self, kind: str, relation: str, user: str) -> bytes:
        """The request of a ListObjects."""
        return self._request("ListObjectsRequest", {"type": kind, "relation": relation, "user": user})

    def _request(self, name: str, fields: Mapping[str, Any]) -> bytes:
        found: bytes = self.server.message(name, {**self.named, **fields}).SerializeToString()
        return found


def _key(each: Tuple) -> dict[str, str]:
    return {"object": each[0], "relation": each[1], "user": each[2]}


@contextmanager
def serving() -> Iterator[Server]:
    """Run it on free ports of loopback until the block ends; all but gRPC is turned off."""
    address = f"127.0.0.1:{next(ports.free())}"
    off = [f"--{each}-enabled=false" for each in ("http", "playground", "metrics", "profiler")]
    command = [str(install()), "run", f"--grpc-addr={address}", "--log-level=none", *off]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True) as popen:
        try:
            with grpc.insecure_channel(address, load.OPTIONS) as channel:
                grpc.channel_ready_future(channel).result(START_SECONDS)
                yield Server(Process(popen, 0.0), address, channel)
        except grpc.FutureTimeoutError as error:
            raise BenchmarkError(f"OpenFGA did not serve within {START_SECONDS:g} s") from error
        finally:
            popen.terminate()
