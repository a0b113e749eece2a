"""Who is calling, on whose behalf, and for how long: one value per RPC.

It travels in a `contextvars.ContextVar` from the interceptors to the servicer and on to the calls that the servicer
makes of its peers. Servicers take it with `current()` and pass it down as an argument; use cases never look it up.
"""

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from pyairtable_mesh.runtime.errors import Unauthenticated

_WORKLOAD = re.compile(r"spiffe://[^/]+/ns/([^/]+)/sa/([^/]+)")
ActorKind = Literal["user", "workload", "anonymous"]


@dataclass(frozen=True, slots=True)
class Actor:
    """The proven identity behind a call.

    `subject` is ``user:usr…`` for a person and the SPIFFE id (``spiffe://<trust domain>/ns/<ns>/sa/<name>``) for a
    workload; empty when nobody proved anything.
    """

    kind: ActorKind
    subject: str

    @property
    def workload(self) -> tuple[str, str]:
        """Namespace and service account of a workload, else two empty strings."""
        matched = _WORKLOAD.fullmatch(self.subject) if self.kind == "workload" else None
        return (matched[1], matched[2]) if matched else ("", "")


ANONYMOUS = Actor("anonymous", "")


@dataclass(slots=True)
class RequestContext:
    """What is known about the RPC in hand. Interceptors fill it in on the way to the servicer; nobody else changes it.

    `deadline` is in seconds of `time.monotonic` (infinite where the caller set none); `authorization` is the header
    as it came, for peers; `trace_id` 32 hex digits or empty; `request_id` and `request_digest` (SHA-256 of the
    request) are set when the request carries an AIP-155 request id. `consistency_token` is the caller's: the call is
    authorized by no older state of the permissions than the one that it stands for.
    """

    method: str
    correlation_id: str = ""
    actor: Actor = ANONYMOUS
    tenant_id: str = ""
    deadline: float = float("inf")
    authorization: str = ""
    trace_id: str = ""
    request_id: str = ""
    request_digest: bytes = b""
    consistency_token: str = ""

    def remaining(self) -> float:
        """Seconds left until the deadline; never negative, infinite without one."""
        return max(0.0, self.deadline - time.monotonic())

    def user(self) -> str:
        """The calling user's subject ``user:usr…``; `Unauthenticated` for anyone else."""
        if self.actor.kind != "user":
            raise Unauthenticated("this method is for users: call it with a user's access token")
        return self.actor.subject


_current: ContextVar[RequestContext | None] = ContextVar("pyairtable_request", default=None)


def current() -> RequestContext:
    """The context of the RPC that this task serves; LookupError outside of one."""
    context = _current.get()
    if context is None:
        raise LookupError("no RPC is being served in this task")
    return context


def current_or_none() -> RequestContext | None:
    """The same, for code that also runs outside of RPCs (peers, logs)."""
    return _current.get()


def enter(context: RequestContext) -> None:
    """Make `context` current for this task. Each RPC has a task of its own, so nothing needs to be undone."""
    _current.set(context)
