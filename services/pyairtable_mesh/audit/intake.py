"""Audit events from the other services' outboxes: each is appended in the transaction that moves the cursor."""

import logging
from collections.abc import Sequence

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
        drafts = [draft for event in events if (draft := self._draft(event)) is not None]
        if drafts:
            await self._audit_log.append(transaction, drafts)

    def _draft(self, event: events_pb2.Event) -> Draft | None:
        audit_event = audit_pb2.AuditEvent()
        try:
            if not event.data.Unpack(audit_event):
                raise InvalidArgument.of_field("data", "is not an AuditEvent")
            self._validator.check(audit_event)
            return messages.to_draft(audit_event, "data")
        except InvalidArgument as refused:
            _logger.error("audit event %s of %s is left out: %s", event.id, event.source, refused.message)  # noqa: TRY400
            return None
