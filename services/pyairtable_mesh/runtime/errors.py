"""The errors a service may raise; free of gRPC, so that domain and use cases can import it.

::

    MeshError
     ├─ InvalidArgument      the request breaks a rule; carries field violations
     ├─ OutOfRange           a cursor, range or revision that no longer exists
     ├─ FailedPrecondition   the system's state forbids it; carries precondition violations
     ├─ Aborted              a concurrent change won; read again and retry
     ├─ AlreadyExists
     ├─ NotFound             also what a caller gets who may not know that the resource exists
     ├─ Unauthenticated
     ├─ PermissionDenied
     ├─ ResourceExhausted    a limit or quota; may carry a delay after which a retry makes sense
     ├─ Unavailable          a dependency is away; may carry a retry delay
     ├─ DeadlineExceeded
     └─ Unimplemented

`status.py` is the one table from this tree to status codes and ``google.rpc`` details. Whatever is not
in the tree leaves the server as INTERNAL, with an id to find it in the log and without any text of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

DOMAIN = "pyairtable.io"
"""`ErrorInfo.domain` of every error, whichever service raises it."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken rule of a request.

    `field` is the path from the request message (``updates[2].relationship.resource``), `description` a sentence
    for the caller, `rule` the machine-readable id of the rule (``string.pattern``), when there is one.
    """

    field: str
    description: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class PreconditionViolation:
    """One state that stands in the way: what kind (`type`), of which `subject`, and a sentence for the caller."""

    type: str
    subject: str
    description: str


class MeshError(Exception):
    """Something a caller can be told.

    `message` is for developers and never holds another exception's text; `reason` is UPPER_SNAKE_CASE and stable
    (AIP-193), unique in the error domain; `metadata` are the values a program needs to react.
    """

    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidArgument(MeshError):
    """The request is wrong whatever the system's state."""

    default_reason = "VALIDATION_FAILED"

    def __init__(
        self,
        message: str,
        violations: Sequence[FieldViolation] = (),
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)

    @classmethod
    def of_field(cls, field: str, description: str, *, reason: str = "", rule: str = "") -> "InvalidArgument":
        """The common case: one field, one sentence."""
        return cls(f"{field}: {description}", [FieldViolation(field, description, rule)], reason=reason)


class OutOfRange(MeshError):
    """What is asked for lies outside of what is kept."""

    default_reason = "OUT_OF_RANGE"


class FailedPrecondition(MeshError):
    """The request is right, but not in the system's present state; retrying alone does not help."""

    default_reason = "FAILED_PRECONDITION"

    def __init__(
        self,
        message: str,
        violations: Sequence[PreconditionViolation] = (),
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)


class Aborted(MeshError):
    """A concurrent change got there first: read again, then decide and retry."""

    default_reason = "ABORTED"


class _AboutResource(MeshError):
    """An error about one resource, named by its type and resource name or reference."""

    def __init__(
        self,
        resource_type: str,
        resource_name: str,
        message: str = "",
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or f"{resource_name}: {self._words}", reason=reason, metadata=metadata)
        self.resource_type = resource_type
        self.resource_name = resource_name

    _words = ""


class AlreadyExists(_AboutResource):
    """Another resource has this name or unique value."""

    default_reason = "ALREADY_EXISTS"
    _words = "exists already"


class NotFound(_AboutResource):
    """There is no such resource that the caller may know of."""

    default_reason = "NOT_FOUND"
    _words = "not found"


class Unauthenticated(MeshError):
    """No identity, or one that cannot be trusted."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(MeshError):
    """The caller may see the resource, but not do this."""

    default_reason = "PERMISSION_DENIED"


class _Retryable(MeshError):
    """An error that may pass; `retry_after` says when trying again makes sense, if that is known."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after = retry_after


class ResourceExhausted(_Retryable):
    """A limit of size, depth, rate or quota; `metadata` names it."""

    default_reason = "RESOURCE_EXHAUSTED"


class Unavailable(_Retryable):
    """A dependency is away, or the service is leaving; a retry with back-off is right."""

    default_reason = "UNAVAILABLE"


class DeadlineExceeded(MeshError):
    """The caller's time is up; the change may or may not have happened."""

    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(MeshError):
    """The contract has the method; this release does not."""

    default_reason = "UNIMPLEMENTED"
