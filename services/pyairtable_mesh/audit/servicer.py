"""The RPCs of `pyairtable.common.v1.AuditService`: each reads its request, calls the use case, answers."""
# ruff: noqa: D102 - methods are named and described in audit.proto

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pyairtable.common.v1 import audit_pb2, audit_pb2_grpc, events_pb2
from pyairtable_mesh.audit import messages
from pyairtable_mesh.audit.domain import Draft
from pyairtable_mesh.audit.filters import FIELDS
from pyairtable_mesh.audit.usecases import READ_PERMISSION, AuditLog
from pyairtable_mesh.runtime import filters, pagination, status
from pyairtable_mesh.runtime.access import ANY, AccessTable, tenant, workload
from pyairtable_mesh.runtime.context import RequestContext, current
from pyairtable_mesh.runtime.errors import FieldViolation, InvalidArgument
from pyairtable_mesh.runtime.validation import SchemaValidator

ACCESS: AccessTable = {
    "WriteAuditEvents": workload(ANY),
    "ListAuditEvents": tenant(READ_PERMISSION),
    "TailAuditEvents": tenant(READ_PERMISSION),
    "VerifyAuditLog": tenant(READ_PERMISSION),
}
_HEARTBEAT_SECONDS = 15.0
_PAGE_BYTES = 2 << 20


def _fitting(events: Sequence[audit_pb2.AuditEvent]) -> Sequence[audit_pb2.AuditEvent]:
    """The first events that fit into one response together; at least one."""
    sizes = itertools.accumulate(event.ByteSize() for event in events)
    return events[: max(1, sum(size <= _PAGE_BYTES for size in sizes))]


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """The log of the caller's tenant; to workloads, the way into the log of any."""

    def __init__(self, audit_log: AuditLog, sealer: pagination.Sealer, validator: SchemaValidator) -> None:
        self._audit_log = audit_log
        self._sealer = sealer
        self._validator = validator

    async def WriteAuditEvents(
        self, request: audit_pb2.WriteAuditEventsRequest, context: Any
    ) -> audit_pb2.WriteAuditEventsResponse:
        judged = [self._judge(event, f"events[{index}]") for index, event in enumerate(request.events)]
        positions = iter(await self._audit_log.write(current(), [each for each in judged if isinstance(each, Draft)]))
        results = [
            audit_pb2.WriteAuditEventResult(position=messages.from_position(next(positions)))
            if isinstance(each, Draft)
            else audit_pb2.WriteAuditEventResult(error=status.to_status(each))
            for each in judged
        ]
        return audit_pb2.WriteAuditEventsResponse(results=results)

    async def ListAuditEvents(
        self, request: audit_pb2.ListAuditEventsRequest, context: Any
    ) -> audit_pb2.ListAuditEventsResponse:
        caller = current()
        page = pagination.page_of(self._sealer, caller, request)
        where = filters.parse(request.filter, FIELDS)
        after = int(page.after[0]) if page.after else None
        descending = request.order_by != "sequence"
        found = await self._audit_log.list(caller, where, after=after, descending=descending, limit=page.size + 1)
        events = _fitting([messages.from_link(link) for link in found[: page.size]])
        token = page.next_token((events[-1].sequence,) if len(found) > len(events) else None)
        return audit_pb2.ListAuditEventsResponse(audit_events=events, next_page_token=token)

    async def TailAuditEvents(
        self, request: audit_pb2.TailAuditEventsRequest, context: Any
    ) -> AsyncIterator[audit_pb2.TailAuditEventsResponse]:
        caller = current()
        where = filters.parse(request.filter, FIELDS)
        after = await self._start(caller, request)
        heartbeat = request.heartbeat_interval.ToTimedelta().total_seconds() or _HEARTBEAT_SECONDS
        async for links, position in self._audit_log.tail(caller, where, after, heartbeat):
            cursor = self._sealer.seal("tail", b"%d" % position, caller.tenant_id)
            yield audit_pb2.TailAuditEventsResponse(audit_events=map(messages.from_link, links), cursor=cursor)

    async def VerifyAuditLog(
        self, request: audit_pb2.VerifyAuditLogRequest, context: Any
    ) -> audit_pb2.VerifyAuditLogResponse:
        known = [(position.sequence, position.hash) for position in request.known_positions]
        report = await self._audit_log.verify(current(), request.start_sequence, request.end_sequence, known)
        return audit_pb2.VerifyAuditLogResponse(
            valid=report.broken is None,
            verified_count=report.verified,
            head=messages.from_position(report.last) if report.last else None,
            broken_sequence=report.broken.sequence if report.broken else 0,
            broken_reason=report.broken.reason if report.broken else "",
            erased_count=report.erased,
        )

    def _judge(self, event: audit_pb2.AuditEvent, field: str) -> Draft | InvalidArgument:
        broken: list[FieldViolation] = self._validator.violations(event, field)
        if broken:
            return InvalidArgument(f"{broken[0].field}: {broken[0].description}", broken)
        try:
            return messages.to_draft(event, field)
        except InvalidArgument as refused:
            return refused

    async def _start(self, caller: RequestContext, request: audit_pb2.TailAuditEventsRequest) -> int:
        if request.cursor:
            try:
                return int(self._sealer.open("tail", request.cursor, caller.tenant_id))
            except pagination.SealBrokenError:
                words = "is not a cursor of this tenant's log"
                raise InvalidArgument.of_field("cursor", words, reason="CURSOR_INVALID") from None
        latest = request.start_position == events_pb2.START_POSITION_LATEST
        return await self._audit_log.end(caller) if latest else 0
