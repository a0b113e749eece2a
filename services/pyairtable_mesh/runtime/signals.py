"""How a reader of the outbox learns that there may be something new, long before its next poll.

Within a process it is a plain wake-up. Between processes on one PostgreSQL it is NOTIFY on a connection of its own,
sent after the commit: a NOTIFY inside of a transaction would make every commit of the database wait for the one
before it (PostgreSQL takes a database-wide lock from PreCommit_Notify to the end of the commit). What is lost when
a process dies between commit and NOTIFY, the readers' poll finds.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

_CHANNEL = "pyairtable_outbox"
_RECONNECT_SECONDS = 1.0
_ALIVE_SECONDS = 30.0
_logger = logging.getLogger(__name__)


class Signal:
    """A wake-up for any number of waiters.

    Take `upcoming()` before looking, then `wait` for it when there was nothing: a wake-up in between is not lost.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def upcoming(self) -> asyncio.Event:
        """The event that the next `notify` sets."""
        return self._event

    def notify(self) -> None:
        """Wake all that wait."""
        self._event.set()
        self._event = asyncio.Event()

    @staticmethod
    async def wait(event: asyncio.Event, seconds: float) -> None:
        """Return when `event` is set or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class PostgresRelay:
    """Carries wake-ups of one process to the others over LISTEN/NOTIFY; many at once become one NOTIFY."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._outgoing = asyncio.Event()

    def notify(self) -> None:
        """Tell the other processes, soon."""
        self._outgoing.set()

    async def run(self, heard: Callable[[], None]) -> None:
        """Keep one connection until cancelled; `heard` is called for every word from another process."""
        while True:
            try:
                async with self._engine.connect() as connection:
                    await self._relay((await connection.get_raw_connection()).driver_connection, heard)
            except Exception as error:  # noqa: BLE001 - whatever it is, the poll goes on and the next try may do
                _logger.info("outbox notifications are interrupted (%s), the poll goes on", type(error).__name__)
            await asyncio.sleep(_RECONNECT_SECONDS * (1 + random.random()))  # noqa: S311 - spreads reconnects

    async def _relay(self, connection: Any, heard: Callable[[], None]) -> None:
        own = connection.get_server_pid()

        def listen(_connection: Any, sender: int, _channel: str, _payload: object) -> None:
            if sender != own:
                heard()

        await connection.add_listener(_CHANNEL, listen)
        while not connection.is_closed():
            await Signal.wait(self._outgoing, _ALIVE_SECONDS)
            self._outgoing.clear()
            await connection.execute(f"NOTIFY {_CHANNEL}")
