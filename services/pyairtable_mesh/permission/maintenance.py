"""Forgetting in time: the changelog is kept for the history window and no longer."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import MeshError

_INTERVAL_SECONDS = 60.0
_STEP = 5_000
_logger = logging.getLogger(__name__)


class Maintenance:
    """Prunes what is older than `window`, and of each tenant what is more than `most` changes."""

    def __init__(self, database: Database, window: timedelta, most: int, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._window = window
        self._most = most
        self._clock = clock

    async def run(self) -> None:
        """Prune every minute until cancelled; what goes wrong is left for the next time."""
        while True:
            try:
                await self.prune()
            except MeshError as error:
                _logger.warning("pruning is put off: %s", error.reason)
            except Exception:
                _logger.exception("pruning failed and is put off")
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def prune(self) -> None:
        """Delete what is too old or too much, in transactions of a few thousand changes."""
        while await self._step() >= _STEP:
            pass

    async def _step(self) -> int:
        async with self._database.transaction(background()) as transaction:
            await transaction.lock(["permission.changelog"])
            deleted = await changelog.prune(transaction.connection, self._clock() - self._window, _STEP)
            return deleted or await changelog.prune_excess(transaction.connection, self._most, _STEP)
