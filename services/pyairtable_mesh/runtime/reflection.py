"""gRPC reflection, v1alpha as `grpcio-reflection` has it and v1 with the same servicer (the messages are alike)."""

from collections.abc import Iterable

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as aio_reflection

V1 = "grpc.reflection.v1.ServerReflection"


def enable(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """List and describe `services` and reflection itself to anyone who can connect."""
    servicer = aio_reflection.ReflectionServicer([*services, reflection.SERVICE_NAME, V1])
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info}),))
