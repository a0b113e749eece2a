"""Finds the method that a person names: among the installed protos, or asked of the server by reflection."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

import pyairtable
from pyairtable_mesh.meshctl.problems import USAGE, Problem

CONTROL_PLANE = "mesh"
"""The name that stands for the control plane where others stand for services: its package."""
COMMON = "pyairtable.common.v1."
"""What the full names of services begin with that every process serves."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a person has named: a service of the mesh, a gRPC service, a method; the first two may be empty."""

    service: str
    grpc_service: str
    method: str

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Target":
        """Read ``METHOD``, ``SERVICE/METHOD``, ``SERVICE METHOD`` or ``SERVICE GRPC_SERVICE/METHOD``."""
        *service, name = words
        prefix, _, method = name.rpartition("/")
        if service or not prefix or _is_grpc_service(prefix):
            return cls(service[0] if service else "", prefix, method)
        return cls(prefix, "", method)

    def fits(self, method: MethodDescriptor) -> bool:
        """Whether this may be the method."""
        owner = method.containing_service
        return method.name == self.method and self.grpc_service in {"", owner.name, owner.full_name}


def _is_grpc_service(name: str) -> bool:
    return name.rpartition(".")[2][:1].isupper()


def installed() -> list[ServiceDescriptor]:
    """The gRPC services of the installed pyairtable-protos; their messages can be read now, within an Any too."""
    modules = {
        f"pyairtable.{path.parts[-3]}.v1.{path.stem}"
        for root in pyairtable.__path__
        for path in Path(root).glob("*/v1/*_pb2.py")
    }
    files = [import_module(module).DESCRIPTOR for module in sorted(modules)]
    return [service for file in files for service in file.services_by_name.values()]


def candidates(target: Target, services: Sequence[ServiceDescriptor]) -> list[ServiceDescriptor]:
    """The installed services that the target may be about; empty when it is about one that is not installed."""
    if "." in target.grpc_service:
        return [service for service in services if service.full_name == target.grpc_service]
    if not target.service:
        return list(services)
    name = target.service.partition(".")[0]
    common = [service for service in services if service.full_name.startswith(COMMON)]
    own = [service for service in services if name in guessed_names(service.full_name)]
    return own + [service for service in common if service not in own] if own else []


def choose(target: Target, services: Iterable[ServiceDescriptor]) -> MethodDescriptor:
    """The one method that fits. Raises `Problem` for none, with names alike, and for several."""
    methods = [method for service in services for method in service.methods]
    found = [method for method in methods if target.fits(method)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{method.containing_service.full_name}/{method.name}" for method in found)
        raise Problem(f"{target.method} is a method of several services.", f"name one of {names}", exit_code=USAGE)
    known = sorted({method.name for method in methods})
    alike = ", ".join(difflib.get_close_matches(target.method, known, n=3) or known)
    raise Problem(f"There is no method {target.method}.", f"did you mean one of {alike}?", exit_code=USAGE)


def guessed_names(grpc_service: str) -> list[str]:
    """The names that the mesh may know the server of a gRPC service by, the likely one first.

    ``pyairtable.user.v1.UserService`` is served by ``user``, ``pyairtable.common.v1.AuditService`` by ``audit``.
    """
    *package, name = grpc_service.split(".")
    unversioned = [part for part in package if not _is_version(part)]
    return [*unversioned[-1:], name.removesuffix("Service").lower()]


def _is_version(part: str) -> bool:
    return part[:1] == "v" and part[1:2].isdigit()
