"""What goes to the audit log: common.v1's AuditEvent, from a use case's words and the caller's proven identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pyairtable.common.v1 import audit_pb2
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.moments import to_timestamp

EVENT_TYPE = "common.audit_event.recorded"
"""The type under which audit events stand in every service's outbox."""
DECISIONS_TYPE = "common.audit_decisions.recorded"
"""The type under which decisions stand there that one call asked for."""
MOST_DECISIONS = 100
"""In one message: as many of the largest that its schema lets in fit into an event (`outbox.MAX_DATA_BYTES`)."""

Outcome = Literal["succeeded", "denied", "failed"]
Answer = Literal["allowed", "denied", "conditional"]

_OUTCOMES: dict[Outcome, audit_pb2.AuditOutcome.ValueType] = {
    "succeeded": audit_pb2.AUDIT_OUTCOME_SUCCEEDED,
    "denied": audit_pb2.AUDIT_OUTCOME_DENIED,
    "failed": audit_pb2.AUDIT_OUTCOME_FAILED,
}
_ANSWERS: dict[Answer, audit_pb2.AuthorizationAnswer.ValueType] = {
    "allowed": audit_pb2.AUTHORIZATION_ANSWER_ALLOWED,
    "denied": audit_pb2.AUTHORIZATION_ANSWER_DENIED,
    "conditional": audit_pb2.AUTHORIZATION_ANSWER_CONDITIONAL,
}


class Decision(NamedTuple):
    """The decision that an act rests on, or is: `permission` as ``base.read``, `grant` what allowed it."""

    subject: str
    resource: str
    permission: str
    answer: Answer
    grant: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class PersonalData:
    """What could identify a person; kept beside the chain and erasable."""

    display_name: str = ""
    email: str = ""
    ip_address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act. `details` never hold personal data: keys in snake_case, at most 32."""

    resource: str
    action: str
    outcome: Outcome
    details: Mapping[str, str]
    decision: Decision | None
    personal: PersonalData | None


def message(entry: Entry, caller: RequestContext, now: datetime) -> audit_pb2.AuditEvent:
    """The event as the audit service takes it, without what that service gives it (name, sequence, hashes).

    ValueError where nobody acted, in no tenant, or by no RPC: such an entry is a mistake of the service that makes it.
    """
    event = audit_pb2.AuditEvent(
        resource=entry.resource,
        outcome=_OUTCOMES[entry.outcome],
        details=dict(entry.details),
        **_circumstances(caller, entry.action, now),
    )
    if entry.decision is not None:
        event.authorization.CopyFrom(audit_pb2.AuthorizationDecision(**_fields(entry.decision)))
    if entry.personal is not None:
        personal = entry.personal
        event.personal_data.CopyFrom(
            audit_pb2.AuditPersonalData(
                display_name=personal.display_name,
                email=personal.email,
                ip_address=personal.ip_address,
                user_agent=personal.user_agent,
            )
        )
    return event


def decisions_message(
    decisions: Sequence[Decision], caller: RequestContext, now: datetime, details: Mapping[str, str]
) -> audit_pb2.AuditDecisions:
    """Up to `MOST_DECISIONS` that one call asked for, each with `details`; ValueError as for `message`."""
    values = _circumstances(caller, "", now)
    # To hand over dictionaries takes a third less time than to add messages.
    values["decisions"] = [_fields(each) for each in decisions]
    return audit_pb2.AuditDecisions(details=dict(details), **values)


def _circumstances(caller: RequestContext, action: str, now: datetime) -> dict[str, Any]:
    """The fields that say who acted, when and by which RPC."""
    by_user = caller.actor.kind == "user"
    action = action or caller.method.lstrip("/")
    if not caller.tenant_id or not caller.actor.subject or "/" not in action:
        raise ValueError("an audit event has a tenant, an actor and an action such as package.Service/Method")
    return {
        "event_id": ids.new_id("evt"),
        "tenant": f"tenants/{caller.tenant_id}",
        "event_time": to_timestamp(now),
        "actor": audit_pb2.AuditActor(
            subject=caller.actor.subject if by_user else "", workload="" if by_user else caller.actor.subject
        ),
        "action": action,
        "correlation_id": caller.correlation_id,
        "trace_id": caller.trace_id,
    }


def _fields(decision: Decision) -> dict[str, Any]:
    subject, resource, permission, answer, grant, revision = decision
    return {
        "subject": subject,
        "resource": resource,
        "permission": permission,
        "answer": _ANSWERS[answer],
        "grant": grant,
        "revision": revision,
    }
