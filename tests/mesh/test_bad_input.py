"""Hostile and careless requests to every RPC of the running platform: each gets a typed error, and none an exception.

The requests are made from the descriptors, so that a new RPC or field is covered when it appears.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2, status_pb2

from pyairtable.common.v1 import audit_pb2, common_pb2, events_pb2
from pyairtable.permission.v1 import permission_pb2
from pyairtable.user.v1 import user_pb2
from tests.mesh.platform import Platform, started

FILES = (common_pb2, audit_pb2, events_pb2, permission_pb2, user_pb2)
SERVED = {
    "pyairtable.permission.v1.PermissionService": "permission",
    "pyairtable.user.v1.UserService": "user",
    "pyairtable.common.v1.AuditService": "audit",
    "pyairtable.common.v1.EventService": "user",
    "pyairtable.common.v1.DiagnosticsService": "audit",
}
STRINGS = ("", "\x00", "x" * 5000, "users/../roles", "'; DROP TABLE users; --", "{{7*7}}", "ünïcödé 🙂", "a:b#c@d")
NUMBERS = (-1, 2**31 - 1)
LEAKS = ("Traceback", "sqlite", "asyncpg", "sqlalchemy", "grpc.aio", "Exception", 'File "', "NoneType")
TYPED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNIMPLEMENTED,
}

METHODS = [
    method for file in FILES for service in file.DESCRIPTOR.services_by_name.values() for method in service.methods
]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of its own: some of these requests are valid, and change things."""
    with started(tmp_path_factory.mktemp("victim")) as running:
        yield running


def requests(method: MethodDescriptor) -> Iterator[Any]:
    """An empty request, and one for each string or number that a field could be given."""
    kind = message_factory.GetMessageClass(method.input_type)
    yield kind()
    for value in STRINGS:
        yield filled(kind(), value, 0)
    for number in NUMBERS:
        yield filled(kind(), "x", number)


def filled(message: Any, text: str, number: int, depth: int = 3) -> Any:
    """Every field of a message set to the same odd value, messages within it likewise."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated and not field.message_type:
            getattr(message, field.name).extend([scalar(field, text, number)] * 2)
        elif field.message_type and field.message_type.GetOptions().map_entry:
            continue
        elif field.message_type and depth:
            inner = getattr(message, field.name)
            filled(inner.add() if field.is_repeated else inner, text, number, depth - 1)
        elif not field.message_type:
            setattr(message, field.name, scalar(field, text, number))
    return message


def scalar(field: FieldDescriptor, text: str, number: int) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return bool(number)
        case FieldDescriptor.CPPTYPE_ENUM:
            return 0 if number < 0 else 77
        case FieldDescriptor.CPPTYPE_UINT32 | FieldDescriptor.CPPTYPE_UINT64:
            return abs(number)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return float(number)
    return number


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, request: Any, token: str
) -> grpc.aio.AioRpcError | None:
    """The error that a call ends with; a stream is read as far as its first message.

    Request streams are sent as one message and their end, in one go: on the wire that is the same, and grpcio's client
    cannot lose the server's answer to an INTERNAL of its own that it raises when it writes behind that answer.
    """
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type)
    make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(path, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    started_call = call(request, metadata=metadata, timeout=10)
    try:
        if method.server_streaming:
            await started_call.read()
            started_call.cancel()
        else:
            await started_call
    except grpc.aio.AioRpcError as error:
        return error
    return None


def check(error: grpc.aio.AioRpcError, method: MethodDescriptor, request: Any) -> None:
    words = f"{method.full_name} answered {error.code()} {error.details()!r} to {str(request)[:300]!r}"
    assert error.code() in TYPED, words
    assert not any(leak in str(error.details()) for leak in LEAKS), words
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(fields)
    assert (info.domain, bool(info.reason)) == ("pyairtable.io", True), words
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        assert fields.field_violations, words


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.removeprefix("pyairtable."))
async def test_bad_input_gets_a_typed_error(victim: Platform, method: MethodDescriptor) -> None:
    assert method.containing_service is not None
    service = SERVED[method.containing_service.full_name]
    tokens = {"nobody": "", "alice": victim.token("alice"), "workload": victim.workload_token("audit")}
    async with victim.channel(service) as channel:
        for request in requests(method):
            for token in tokens.values():
                error = await outcome(channel, method, request, token)
                if error is not None:
                    check(error, method, request)


def test_every_service_of_the_contract_is_tried() -> None:
    assert {method.containing_service.full_name for method in METHODS if method.containing_service} == set(SERVED)
    assert descriptor_pool.Default().FindServiceByName("pyairtable.user.v1.UserService")
