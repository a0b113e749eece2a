"""Audit events from the other services' outboxes: each is appended in the transaction that moves the cursor."""

import asyncio
import logging
from collections.abc import Iterator, Sequence

from pyairtable.common.v1 import audit_pb2, events_pb2
from pyairtable_mesh.audit import messages
from pyairtable_mesh.audit.domain import Draft
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime.database import Transaction
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.validation import SchemaValidator

_logger = logging.getLogger(__name__)


class Intake:
    """A handler of `EventConsumer`. An event that no service of ours may write is named in the log and left out:
    waiting for it to become right would keep all later ones from the log.
    """

    def __init__(self, audit_log: AuditLog, validator: SchemaValidator) -> None:
        self._audit_log = audit_log
        self._validator = validator

    async def __call__(self, transaction: Transaction, events: Sequence[events_pb2.Event]) -> None:
        """Append what the events carry."""
        drafts = list[Draft]()
        for event in events:
            drafts += self._drafts(event)
            # One may carry a thousand decisions.
            await asyncio.sleep(0)
        if drafts:
            await self._audit_log.append(transaction, drafts)

    def _drafts(self, event: events_pb2.Event) -> Iterator[Draft]:
        for audit_event in self._carried(event):
            try:
                self._validator.check(audit_event)
                yield messages.to_draft(audit_event, "data")
            except InvalidArgument as refused:
                _left_out(event, refused)

    def _carried(self, event: events_pb2.Event) -> Sequence[audit_pb2.AuditEvent]:
        audit_event, decisions = audit_pb2.AuditEvent(), audit_pb2.AuditDecisions()
        try:
            if event.data.Unpack(audit_event):
                return [audit_event]
            if not event.data.Unpack(decisions):
                raise InvalidArgument.of_field("data", "is neither an AuditEvent nor AuditDecisions")
            self._validator.check(decisions)
        except InvalidArgument as refused:
            _left_out(event, refused)
            return ()
        return messages.taken_apart(decisions)


def _left_out(event: events_pb2.Event, refused: InvalidArgument) -> None:
    _logger.error("audit event %s of %s is left out: %s", event.id, event.source, refused.message)
