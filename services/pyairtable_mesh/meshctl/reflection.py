"""Learns the methods of a server whose protos are not installed here, by gRPC server reflection (v1alpha)."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2

from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.meshctl.problems import Problem

TIMEOUT_SECONDS = 5.0
MAX_FILES = 1_000
STANDARD = ("grpc.reflection.", "grpc.health.")
_METHOD: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].methods_by_name["ServerReflectionInfo"]

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse


async def services(connection: rpc.Connection, address: str, wanted: str = "") -> list[ServiceDescriptor]:
    """The services of a server, the standard ones left out; with `wanted` only the one of that full name.

    Raises `Problem` when the server does not describe itself.
    """
    try:
        names = [wanted] if wanted else await _names(connection)
        files = await _files(connection, [Request(file_containing_symbol=name) for name in names])
        pool = DescriptorPool()
        for file in ordered(files):
            pool.Add(file)
        return [pool.FindServiceByName(name) for name in names]
    except CallError as error:
        if error.code != "UNIMPLEMENTED":
            raise
        words = f"The methods of {address} are not known: its protos are not installed, and it has no reflection."
        raise Problem(words, "start the service with PYAIRTABLE_REFLECTION=true") from None
    except (KeyError, TypeError):
        words = f"{address} does not describe {wanted or 'its services'} in a way that can be read."
        raise Problem(words, "check the name with grpcurl, or look at the service's log") from None


async def _names(connection: rpc.Connection) -> list[str]:
    [answer] = await _ask(connection, [Request(list_services="*")])
    names = (service.name for service in answer.list_services_response.service)
    return sorted(name for name in names if not name.startswith(STANDARD))


async def _files(
    connection: rpc.Connection, requests: list[reflection_pb2.ServerReflectionRequest]
) -> dict[str, FileDescriptorProto]:
    files: dict[str, FileDescriptorProto] = {}
    while requests and len(files) < MAX_FILES:
        for answer in await _ask(connection, requests):
            for content in answer.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(content)
                files[file.name] = file
        asked = {request.file_by_filename for request in requests}
        missing = {name for file in files.values() for name in file.dependency} - files.keys() - asked
        requests = [Request(file_by_filename=name) for name in sorted(missing)]
    return files


async def _ask(
    connection: rpc.Connection, requests: list[reflection_pb2.ServerReflectionRequest]
) -> list[reflection_pb2.ServerReflectionResponse]:
    answers = connection.call(_METHOD, requests, seconds=TIMEOUT_SECONDS)
    return [answer async for answer in answers if isinstance(answer, Response)]


def ordered(files: dict[str, FileDescriptorProto]) -> Iterable[FileDescriptorProto]:
    """The files, each behind those that it imports."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[FileDescriptorProto]:
        if name in files and name not in done:
            done.add(name)
            for dependency in files[name].dependency:
                yield from visit(dependency)
            yield files[name]

    for name in files:
        yield from visit(name)
