"""google.rpc error details (AIP-193) in words, and exit codes."""

from collections.abc import Iterator
from typing import cast

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2
from grpc_status import rpc_status

REFUSED, MAY_PASS = 1, 3
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}


def exit_code(error: grpc.aio.AioRpcError) -> int:
    """Says by a number whether trying again makes sense."""
    return MAY_PASS if error.code() in PASSING else REFUSED


def in_words(error: grpc.aio.AioRpcError) -> str:
    """Code and message, then lines for each detail."""
    status = rpc_status.from_call(cast("grpc.Call", error))  # it has what is read from one
    lines = [f"{error.code().name}: {error.details()}"]
    for detail in status.details if status is not None else []:
        lines += _detail_in_words(detail)
    return "\n  ".join(lines)


def _detail_in_words(detail: Any) -> Iterator[str]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    resource, retry = error_details_pb2.ResourceInfo(), error_details_pb2.RetryInfo()
    precondition, quota = error_details_pb2.PreconditionFailure(), error_details_pb2.QuotaFailure()
    if detail.Unpack(info):
        yield f"reason: {info.reason} ({info.domain})"
        yield from (f"{key}: {value}" for key, value in sorted(info.metadata.items()))
    elif detail.Unpack(bad):
        yield from (f"field {broken.field}: {broken.description}" for broken in bad.field_violations)
    elif detail.Unpack(resource):
        yield f"resource: {resource.resource_name} ({resource.resource_type})"
    elif detail.Unpack(retry):
        yield f"retry after: {retry.retry_delay.ToTimedelta().total_seconds():g}s"
    elif detail.Unpack(precondition):
        yield from (f"state of {each.subject}: {each.description}" for each in precondition.violations)
    elif detail.Unpack(quota):
        yield from (f"quota of {each.subject}: {each.description}" for each in quota.violations)
    else:
        yield detail.type_url
