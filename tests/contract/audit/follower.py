"""A process that follows the outbox in one database into the audit log in another, until it is killed."""

import asyncio
import sys
from collections.abc import AsyncIterator

from pyairtable.common.v1 import events_pb2
from pyairtable_mesh.audit.intake import Intake
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime import consumers, database
from pyairtable_mesh.runtime.events import EventServicer
from pyairtable_mesh.runtime.validation import SchemaValidator

BATCH = 20


class SmallBatches:
    """The event stream of a database, in so small batches that a kill falls between many."""

    def __init__(self, source: database.Database) -> None:
        self._servicer = EventServicer(source)

    def Subscribe(self, request: events_pb2.SubscribeRequest) -> AsyncIterator[events_pb2.SubscribeResponse]:
        request.max_batch_size = BATCH
        return self._servicer.Subscribe(request, None)


async def main(source_url: str, audit_url: str) -> None:
    async with (
        database.opened(source_url, service="permission") as source,
        database.opened(audit_url, service="audit") as own,
    ):
        log = AuditLog(own, Store(), None)  # type: ignore[arg-type]
        intake = Intake(log, SchemaValidator())
        # A killed replica's work is its own again at once: nobody else moves the cursor.
        await consumers.EventConsumer("audit.permission", SmallBatches(source), own, intake).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
