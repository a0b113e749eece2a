"""A call's failure, with everything that the server told about it in ``google.rpc`` details (AIP-193)."""

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.problems import STATUS_BASE, Problem

DETAILS_KEY = "grpc-status-details-bin"
NEXT_STEPS = {
    "UNAUTHENTICATED": "meshctl login --user NAME, then call again",
    "UNAVAILABLE": "meshctl doctor",
    "DEADLINE_EXCEEDED": "allow more time with --timeout, or see what is slow: meshctl doctor",
    "INTERNAL": "look for the error_id in the service's log",
}
_KNOWN = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.RetryInfo,
    error_details_pb2.ResourceInfo,
    error_details_pb2.Help,
)


class CallError(Problem):
    """A call has failed; `status` is what is known of why, in words and for programs."""

    def __init__(self, status: status_pb2.Status) -> None:
        self.status = status
        self.code = _name(status.code)
        super().__init__(
            f"{self.code}: {status.message}" if status.message else self.code,
            NEXT_STEPS.get(self.code, ""),
            exit_code=STATUS_BASE + status.code,
            details=list(describe(status)),
        )

    @property
    def reason(self) -> str:
        """`ErrorInfo.reason`; empty when the server has given none."""
        found = (detail for detail in details(self.status) if isinstance(detail, error_details_pb2.ErrorInfo))
        return next((info.reason for info in found), "")


def of_rpc_error(error: grpc.aio.AioRpcError) -> CallError:
    """What gRPC has raised; its details when they belong to the same status."""
    number: int = error.code().value[0]
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if status.code == number:
                return CallError(status)
    return CallError(status_pb2.Status(code=number, message=error.details() or ""))


def details(status: status_pb2.Status) -> Iterator[Any]:
    """The details of known types, unpacked."""
    for packed in status.details:
        for kind in _KNOWN:
            detail = kind()
            if packed.Unpack(detail):
                yield detail


def describe(status: status_pb2.Status) -> Iterator[str]:
    """One line for each thing that the details say."""
    for detail in details(status):
        match detail:
            case error_details_pb2.ErrorInfo():
                yield f"reason: {detail.reason} ({detail.domain})"
                yield from (f"{key}: {value}" for key, value in sorted(detail.metadata.items()))
            case error_details_pb2.BadRequest():
                for row in detail.field_violations:
                    yield f"field {row.field}: {row.description}" + (f" [{row.reason}]" if row.reason else "")
            case error_details_pb2.PreconditionFailure():
                yield from (f"state {row.type} of {row.subject}: {row.description}" for row in detail.violations)
            case error_details_pb2.QuotaFailure():
                yield from (f"limit {row.subject}: {row.description}" for row in detail.violations)
            case error_details_pb2.RetryInfo():
                yield f"retry: after {detail.retry_delay.ToTimedelta().total_seconds():g} s"
            case error_details_pb2.ResourceInfo():
                yield f"resource: {detail.resource_name} ({detail.resource_type})"
            case error_details_pb2.Help():
                yield from (f"help: {link.description} {link.url}" for link in detail.links)


def to_data(status: status_pb2.Status) -> dict[str, Any]:
    """The status for a program: the JSON form of ``google.rpc.Status`` with the code by name."""
    return {
        "code": _name(status.code),
        "message": status.message,
        "details": [_detail_data(packed) for packed in status.details],
    }


@contextmanager
def told(form: output.Form | None) -> Iterator[None]:
    """Tell a call's failure in the form of its responses: in words, where that is not one for programs."""
    try:
        yield
    except CallError as error:
        if form is None or form == "table":
            raise
        click.echo(output.dumps(form, to_data(error.status)), err=True)
        sys.exit(error.exit_code)


def _detail_data(packed: Any) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json_format.MessageToDict(packed)
    except TypeError:  # a detail of a type that is not installed here
        data = {"@type": packed.type_url, "value": base64.b64encode(packed.value).decode()}
    return data


def _name(number: int) -> str:
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), f"STATUS_{number}")
