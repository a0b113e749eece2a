"""Audit events on the wire, to the domain and back."""

from collections.abc import Mapping

from pyairtable.common.v1 import audit_pb2
from pyairtable_mesh.audit.domain import Answer, Decision, Draft, Entry, Link, Outcome, PersonalData, Position
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.moments import from_timestamp, to_timestamp

_OUTCOMES: Mapping[Outcome, audit_pb2.AuditOutcome.ValueType] = {
    Outcome.SUCCEEDED: audit_pb2.AUDIT_OUTCOME_SUCCEEDED,
    Outcome.DENIED: audit_pb2.AUDIT_OUTCOME_DENIED,
    Outcome.FAILED: audit_pb2.AUDIT_OUTCOME_FAILED,
}
_ANSWERS: Mapping[Answer, audit_pb2.AuthorizationAnswer.ValueType] = {
    Answer.UNSPECIFIED: audit_pb2.AUTHORIZATION_ANSWER_UNSPECIFIED,
    Answer.ALLOWED: audit_pb2.AUTHORIZATION_ANSWER_ALLOWED,
    Answer.DENIED: audit_pb2.AUTHORIZATION_ANSWER_DENIED,
    Answer.CONDITIONAL: audit_pb2.AUTHORIZATION_ANSWER_CONDITIONAL,
}
_OUTCOME_OF = {number: outcome for outcome, number in _OUTCOMES.items()}
_OUTCOME_OF_ANSWER = {audit_pb2.AUTHORIZATION_ANSWER_DENIED: audit_pb2.AUDIT_OUTCOME_DENIED}
_ANSWER_OF = {number: answer for answer, number in _ANSWERS.items()}


def to_draft(event: audit_pb2.AuditEvent, field: str) -> Draft:
    """The draft of an event that keeps the rules of its schema; `field` is its place in the request."""
    try:
        event_time = from_timestamp(event.event_time)
    except (ValueError, OverflowError):
        raise InvalidArgument.of_field(f"{field}.event_time", "is not between the years 1 and 9999") from None
    entry = Entry(
        event_id=event.event_id,
        tenant_id=event.tenant.removeprefix("tenants/"),
        event_time=event_time,
        subject=event.actor.subject,
        workload=event.actor.workload,
        action=event.action,
        resource=event.resource,
        outcome=_OUTCOME_OF[event.outcome],
        decision=_to_decision(event.authorization) if event.HasField("authorization") else None,
        correlation_id=event.correlation_id,
        trace_id=event.trace_id,
        details=dict(event.details),
    )
    return Draft(entry, _to_personal(event.personal_data) if event.HasField("personal_data") else None)


def taken_apart(decisions: audit_pb2.AuditDecisions) -> list[audit_pb2.AuditEvent]:
    """An event for each decision; the same ones, by their event ids, whenever the decisions come."""
    common = audit_pb2.AuditEvent(
        tenant=decisions.tenant,
        event_time=decisions.event_time,
        actor=decisions.actor,
        action=decisions.action,
        correlation_id=decisions.correlation_id,
        trace_id=decisions.trace_id,
        details=decisions.details,
    )
    events = list[audit_pb2.AuditEvent]()
    for place, decision in enumerate(decisions.decisions):
        event = audit_pb2.AuditEvent(
            event_id=ids.derived(decisions.event_id, place),
            resource=decision.resource,
            outcome=_OUTCOME_OF_ANSWER.get(decision.answer, audit_pb2.AUDIT_OUTCOME_SUCCEEDED),
            authorization=decision,
        )
        event.MergeFrom(common)
        events.append(event)
    if decisions.dropped_before:
        events[0].details["dropped_before"] = str(decisions.dropped_before)
    return events


def _to_decision(decision: audit_pb2.AuthorizationDecision) -> Decision:
    return Decision(
        subject=decision.subject,
        resource=decision.resource,
        permission=decision.permission,
        answer=_ANSWER_OF[decision.answer],
        grant=decision.grant,
        revision=decision.revision,
    )


def _to_personal(data: audit_pb2.AuditPersonalData) -> PersonalData:
    return PersonalData(
        display_name=data.display_name, email=data.email, ip_address=data.ip_address, user_agent=data.user_agent
    )


def from_link(link: Link) -> audit_pb2.AuditEvent:
    """An event with everything that the audit service gives it."""
    entry = link.entry
    return audit_pb2.AuditEvent(
        name=f"auditEvents/{link.audit_id}",
        event_id=entry.event_id,
        tenant=f"tenants/{entry.tenant_id}",
        event_time=to_timestamp(entry.event_time),
        actor=audit_pb2.AuditActor(subject=entry.subject, workload=entry.workload),
        action=entry.action,
        resource=entry.resource,
        outcome=_OUTCOMES[entry.outcome],
        authorization=_from_decision(entry.decision) if entry.decision else None,
        correlation_id=entry.correlation_id,
        trace_id=entry.trace_id,
        details=entry.details,
        personal_data=_from_personal(link.personal.opened()) if link.personal else None,
        sequence=link.sequence,
        personal_data_digest=link.personal_digest,
        previous_hash=link.previous_hash,
        hash=link.hash,
    )


def _from_decision(decision: Decision) -> audit_pb2.AuthorizationDecision:
    return audit_pb2.AuthorizationDecision(
        subject=decision.subject,
        resource=decision.resource,
        permission=decision.permission,
        answer=_ANSWERS[decision.answer],
        grant=decision.grant,
        revision=decision.revision,
    )


def _from_personal(data: PersonalData) -> audit_pb2.AuditPersonalData:
    return audit_pb2.AuditPersonalData(
        display_name=data.display_name, email=data.email, ip_address=data.ip_address, user_agent=data.user_agent
    )


def from_position(position: Position) -> audit_pb2.AuditChainPosition:
    """A place in the chain."""
    return audit_pb2.AuditChainPosition(
        name=f"auditEvents/{position.audit_id}", sequence=position.sequence, hash=position.hash
    )
