"""SQLAlchemy engines on SQLite: one connection that writes, where changes take turns, and a pool of reading ones."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import CursorResult, Dialect, Executable
from sqlalchemy import event as hooks
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.columns import BY_KEY, FEW
from pyairtable_mesh.runtime.engines import QUEUE_SECONDS
from pyairtable_mesh.runtime.errors import Unavailable

_logger = logging.getLogger(__name__)
T_co = TypeVar("T_co", covariant=True)
_RETRY_SECONDS = 1.0
LOOK_SECONDS = 0.05
"""How often to look whether other processes have changed something, which takes microseconds."""
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
)


class _Step(Protocol[T_co]):
    def __call__(self, connection: SyncConnection, /, *, at_once: bool) -> T_co: ...


class Connection(AsyncConnection):
    """SQLAlchemy's, which runs on the event loop, without a greenlet of its own, what the driver takes there."""

    async def execute(
        self, statement: Executable, parameters: Any = None, *, execution_options: Any = None
    ) -> CursorResult[Any]:
        """See SQLAlchemy, and `columns.by_key`."""
        if not statement.get_execution_options().get(BY_KEY):
            return await super().execute(statement, parameters, execution_options=execution_options)

        def executed(connection: SyncConnection, /, *, at_once: bool) -> CursorResult[Any]:
            options = {**(execution_options or {}), BY_KEY: at_once}
            return connection.execute(statement, parameters, execution_options=options)

        return await self._run(executed, at_once=not isinstance(parameters, list) or len(parameters) <= FEW)

    async def take_turn(self) -> None:
        """Begin a transaction, when the writer before has ended; OperationalError when it does not."""
        self._proxied.begin()
        await self._run(sqlite.begin, at_once=True)

    @property
    def driven(self) -> sqlite.Connection:
        """The driver's own."""
        driven = self._proxied.connection.driver_connection
        assert isinstance(driven, sqlite.Connection)
        return driven

    async def _run(self, step: _Step[T_co], *, at_once: bool) -> T_co:
        if at_once:
            try:
                return step(self._proxied, at_once=True)
            except OperationalError as error:
                if not sqlite.is_busy(error):
                    raise
        return await self.run_sync(partial(step, at_once=False))


class _Engine(AsyncEngine):
    def connect(self) -> Connection:
        return Connection(self)


class Writer:
    """The engine of a connection that is kept from change to change: a pool takes longer than most statements."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._kept: Connection | None = None

    @property
    def dialect(self) -> Dialect:
        """See SQLAlchemy."""
        return self._engine.dialect

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that no other change, of no process, runs beside; committed when the block ends.

        PoolTimeout or OperationalError when the turn does not come.
        """
        async with self._connected() as connection:
            await connection.take_turn()
            yield connection
            await connection.commit()

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` soon after another process has committed, or may have; until cancelled."""
        known: tuple[sqlite.Connection, int] | None = None
        while True:
            try:
                async with self._connected() as connection:
                    # Changes with the commits of other connections, and only this one of the process commits.
                    found = connection.driven, connection.driven.data_version()
                if known is not None and found != known:
                    heard()
                known = found
            except Exception as error:  # noqa: BLE001 - whoever changes something next is told
                _logger.info("other processes' changes are looked for again soon: %s", type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        await self._wait_for_turn()
        try:
            connection = self._kept or self._engine.connect()
            self._kept = None
            if connection.sync_connection is None:
                await connection.start()
            async with AsyncExitStack() as failed:
                # Whatever goes wrong, the pool has means to find out what can still be done with the connection.
                failed.push_async_exit(connection)
                yield connection
                failed.pop_all()
                self._kept = connection
        finally:
            self._turn.release()

    async def dispose(self) -> None:
        """Close the connection."""
        if self._kept is not None:
            await self._kept.close()
        await self._engine.dispose()

    async def _wait_for_turn(self) -> None:
        try:
            async with asyncio.timeout(QUEUE_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise PoolTimeout("the changes before this one do not end") from error


def engines(url: URL, readers: int) -> tuple[Writer, AsyncEngine]:
    """One writing connection and a pool of reading ones; a transaction that writes is BEGIN IMMEDIATE."""
    path = url.database or ""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the folder of {path} cannot be made", reason="DATABASE_UNAVAILABLE") from error
    options: dict[str, Any] = {"max_overflow": 0, "pool_timeout": QUEUE_SECONDS, "hide_parameters": True}
    target = url.set(drivername=sqlite.DRIVER)

    def engine(size: int, *pragmas: str, writes: bool) -> _Engine:
        made = create_async_engine(target, pool_size=size, connect_args={"writes": writes}, **options).sync_engine
        hooks.listen(made, "connect", _pragmas(pragmas))
        return _Engine(made)

    return Writer(engine(1, *_PRAGMAS, writes=True)), engine(readers, *_PRAGMAS, "query_only = ON", writes=False)


def _pragmas(pragmas: Iterable[str]) -> Callable[[Any, Any], None]:
    def apply(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return apply
