"""gRPC reflection, v1alpha as `grpcio-reflection` has it and v1 with the same servicer (the messages are alike)."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as aio_reflection

V1 = "grpc.reflection.v1.ServerReflection"


def enable(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """List and describe `services` and reflection itself to anyone who can connect."""
    pool = descriptor_pool.Default()
    _add_v1(pool)
    servicer = aio_reflection.ReflectionServicer([*services, reflection.SERVICE_NAME, V1], pool=_Symbols(pool))
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info}),))


def _add_v1(pool: descriptor_pool.DescriptorPool) -> None:
    """`grpcurl describe` looks up every service that is listed; `grpcio-reflection` has no descriptor of v1."""
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        renamed = json_format.MessageToJson(file).replace("v1alpha", "v1")
        pool.AddSerializedFile(json_format.Parse(renamed, descriptor_pb2.FileDescriptorProto()).SerializeToString())


class _Symbols:
    """A descriptor pool whose `FindFileContainingSymbol` knows methods too, as upb's does not."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """The file of a message, field, enum, service or method; KeyError for none of them."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            method: Any = self._pool.FindMethodByName(symbol)
            return method.containing_service.file
