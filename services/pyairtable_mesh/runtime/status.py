"""The one table from the error tree to gRPC status codes and ``google.rpc`` details (AIP-193), and back again."""

import itertools
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pyairtable_mesh.runtime import errors

CODES: dict[type[errors.MeshError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
}
DETAILS_KEY = "grpc-status-details-bin"
_CLASSES = {code: kind for kind, code in CODES.items()}
# A client refuses metadata over 8 KiB, and would see that instead of the error. It travels as text and as base64.
_MAX_TEXT_BYTES = 512
_MAX_ROWS = 32
_MAX_ROWS_BYTES = 3072


def code_of(error: errors.MeshError) -> grpc.StatusCode:
    """The status code of an error; INTERNAL for a bare `MeshError`."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.MeshError) -> status_pb2.Status:
    """The whole ``google.rpc.Status``: code, message, ErrorInfo first, then what the kind of error adds."""
    metadata = {key: _short(value) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN, metadata=metadata)
    code: int = code_of(error).value[0]
    status = status_pb2.Status(code=code, message=_short(error.message))
    for detail in (info, *_details(error)):
        status.details.add().Pack(detail)
    return status


def _short(text: str) -> str:
    data = text.encode()
    return text if len(data) <= _MAX_TEXT_BYTES else data[:_MAX_TEXT_BYTES].decode(errors="ignore") + "…"


def _fitting(rows: list[Any]) -> list[Any]:
    """The first rows that fit into an error together; at least one."""
    sizes = itertools.accumulate(row.ByteSize() for row in rows)
    return rows[: max(1, sum(size <= _MAX_ROWS_BYTES for size in sizes))]


def _details(error: errors.MeshError) -> list[Any]:
    match error:
        case errors.InvalidArgument() if error.violations:
            rows = [
                error_details_pb2.BadRequest.FieldViolation(
                    field=_short(v.field), description=_short(v.description), reason=v.rule
                )
                for v in error.violations[:_MAX_ROWS]
            ]
            return [error_details_pb2.BadRequest(field_violations=_fitting(rows))]
        case errors.FailedPrecondition() if error.violations:
            states = [
                error_details_pb2.PreconditionFailure.Violation(
                    type=v.type, subject=_short(v.subject), description=_short(v.description)
                )
                for v in error.violations[:_MAX_ROWS]
            ]
            return [error_details_pb2.PreconditionFailure(violations=_fitting(states))]
        case errors.AlreadyExists() | errors.NotFound():
            name = _short(error.resource_name)
            return [error_details_pb2.ResourceInfo(resource_type=error.resource_type, resource_name=name)]
        case errors.ResourceExhausted() | errors.Unavailable():
            return _retry_details(error)
        case _:
            return []


def _retry_details(error: errors.ResourceExhausted | errors.Unavailable) -> list[Any]:
    details: list[Any] = []
    if isinstance(error, errors.ResourceExhausted):
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=error.metadata.get("limit", error.reason), description=error.message)
        details.append(quota)
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> errors.MeshError:
    """What a peer's failure means here, with the peer's reason, metadata and violations.

    Only errors of our own domain keep their text; anything else (a proxy, a crashed peer, the transport) becomes
    `Unavailable`, `DeadlineExceeded`, `ResourceExhausted` or INTERNAL in words of our own.
    """
    code = error.code()
    status = _status_of(error)
    info, fields, resource = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.ResourceInfo(),
    )
    states, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        any(detail.Unpack(message) for message in (info, fields, resource, states, retry))
    if status is None or info.domain != errors.DOMAIN:
        return _transport_error(code, peer)
    kind = _CLASSES.get(code, errors.MeshError)
    keywords: dict[str, Any] = {"reason": info.reason, "metadata": dict(info.metadata)}
    if kind in {errors.NotFound, errors.AlreadyExists}:
        return kind(resource.resource_type, resource.resource_name, status.message, **keywords)
    if kind is errors.InvalidArgument:
        rows = [errors.FieldViolation(v.field, v.description, v.reason) for v in fields.field_violations]
        return errors.InvalidArgument(status.message, rows, **keywords)
    if kind is errors.FailedPrecondition:
        found = [errors.PreconditionViolation(v.type, v.subject, v.description) for v in states.violations]
        return errors.FailedPrecondition(status.message, found, **keywords)
    if kind in {errors.ResourceExhausted, errors.Unavailable} and retry.HasField("retry_delay"):
        keywords["retry_after"] = retry.retry_delay.ToTimedelta()
    return kind(status.message, **keywords)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return None


def _transport_error(code: grpc.StatusCode, peer: str) -> errors.MeshError:
    metadata = {"service": peer}
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded(f"the {peer} service did not answer in time", metadata=metadata)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.ResourceExhausted(f"the {peer} service is at its limit", metadata=metadata)
        case grpc.StatusCode.UNAVAILABLE:
            words = f"the {peer} service cannot be reached"
            return errors.Unavailable(words, reason="DEPENDENCY_UNAVAILABLE", metadata=metadata)
        case _:
            return errors.MeshError(f"the {peer} service failed", metadata=metadata)
