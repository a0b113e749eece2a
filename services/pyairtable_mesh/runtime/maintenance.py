"""Forgetting in time: what the runtime's tables keep is bounded, and trimmed a little at a time."""

import asyncio
import logging
from datetime import timedelta

from pyairtable_mesh.runtime import idempotency, outbox
from pyairtable_mesh.runtime.columns import delete_older
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.tables import CONSUMED_EVENTS

KEEP_EVENTS = timedelta(days=7)
"""A consumer that was away for longer has to read the present state first (CURSOR_EXPIRED)."""
KEEP_ANSWERS = timedelta(days=1)
"""How long a request id is remembered."""
_INTERVAL_SECONDS = 300.0
_STEP = 5_000
_logger = logging.getLogger(__name__)


async def run(database: Database) -> None:
    """Trim every five minutes until cancelled; what goes wrong is left for the next time."""
    while True:
        try:
            await trim(database)
        except MeshError as error:
            _logger.warning("trimming is put off: %s", error.reason)
        except Exception:
            _logger.exception("trimming failed and is put off")
        await asyncio.sleep(_INTERVAL_SECONDS)


async def trim(database: Database) -> None:
    """Delete what is too old, in transactions of at most a few thousand rows of each table."""
    while await _step(database) >= _STEP:
        pass


async def _step(database: Database) -> int:
    async with database.transaction(background()) as transaction:
        await transaction.lock(["maintenance"])
        connection, now = transaction.connection, transaction.now
        return max(
            await outbox.trim(connection, now - KEEP_EVENTS, _STEP),
            await idempotency.trim(connection, now - KEEP_ANSWERS, _STEP),
            # A consumer's cursor is past these; the ids only guard against a cursor that was forgotten.
            await delete_older(connection, CONSUMED_EVENTS, now - 2 * KEEP_EVENTS, _STEP),
        )
