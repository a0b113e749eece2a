"""SQLite on a thread of its own, and one hop to it for each statement.

aiosqlite goes to the thread for a cursor, for the statement, for its rows and for the cursor's end; SQLAlchemy asks for
BEGIN before and for a rollback behind. Each hop takes ten times as long as SQLite does for a statement by key. Here a
statement brings its first rows with it, the first one of a transaction begins it, and what was committed is not rolled
back. Nothing waits on the event loop: a statement takes as long as it takes on the thread.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite

_ROWS_AHEAD = 1_000
"""How many rows come with their statement."""


class Cursor:
    """One statement and what came of it, as SQLAlchemy's adapter for aiosqlite uses a cursor."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._ahead: list[Any] = []
        self._more = False
        self.arraysize = 1

    async def __aenter__(self) -> "Cursor":
        return self

    async def execute(self, sql: str, parameters: Iterable[Any] = ()) -> None:
        """Run a statement."""
        await self._run(sqlite3.Connection.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Iterable[Iterable[Any]]) -> None:
        """Run a statement for each of some parameters."""
        await self._run(sqlite3.Connection.executemany, sql, parameters)

    async def _run(self, function: Any, sql: str, parameters: Iterable[Any]) -> None:
        self._cursor, self._ahead = await self._connection.run(function, sql, parameters)
        self._more = len(self._ahead) == _ROWS_AHEAD

    async def fetchone(self) -> Any:
        """The next row; None behind the last."""
        return next(iter(await self.fetchmany(1)), None)

    async def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Up to so many rows."""
        wanted = self.arraysize if size is None else size
        rows, self._ahead = self._ahead[:wanted], self._ahead[wanted:]
        if self._more and len(rows) < wanted:
            missing = wanted - len(rows)
            found = await self._connection.call(partial(self._fetching().fetchmany, missing))
            self._more = len(found) == missing
            rows += found
        return rows

    async def fetchall(self) -> Sequence[Any]:
        """All further rows."""
        rows, self._ahead = self._ahead, []
        if self._more:
            self._more = False
            rows += await self._connection.call(self._fetching().fetchall)
        return rows

    async def close(self) -> None:
        """Give up rows that were not fetched; without any the statement has ended."""
        if self._more:
            self._more = False
            await self._connection.call(self._fetching().close)

    @property
    def description(self) -> Any:
        """The columns of the statement; None where it has no rows."""
        return self._cursor.description if self._cursor else None

    @property
    def rowcount(self) -> int:
        """How many rows were changed; -1 where nothing was."""
        return self._cursor.rowcount if self._cursor else -1

    @property
    def lastrowid(self) -> int | None:
        """The row that was inserted last."""
        return self._cursor.lastrowid if self._cursor else None

    def _fetching(self) -> sqlite3.Cursor:
        assert self._cursor is not None
        return self._cursor


class Connection(aiosqlite.Connection):
    """A connection whose transactions begin with their first statement, by `beginning` (BEGIN, or BEGIN IMMEDIATE)."""

    def __init__(self, path: str, beginning: str, factory: type[sqlite3.Connection]) -> None:
        # isolation_level None leaves BEGIN to us: the driver's own would come late, and never before a SELECT.
        connect = partial(sqlite3.connect, Path(path), isolation_level=None, factory=factory)
        super().__init__(connect, iter_chunk_size=_ROWS_AHEAD)
        self._thread.daemon = True
        self._beginning = beginning
        self._due = ""
        self._open = False

    def begin(self) -> None:
        """Let the next statement begin a transaction."""
        self._due = self._beginning

    def cursor(self) -> Cursor:  # type: ignore[override] # aiosqlite's makes one on the thread
        """A cursor for one statement."""
        return Cursor(self)

    async def run(self, function: Any, sql: str, parameters: Iterable[Any]) -> tuple[sqlite3.Cursor, list[Any]]:
        """Run a statement on the thread; the cursor, with up to `_ROWS_AHEAD` rows."""
        beginning, self._due = self._due, ""
        # Before the hop, not behind it: whoever is cancelled meanwhile leaves a transaction to roll back.
        self._open = True
        executed: tuple[sqlite3.Cursor, list[Any]] = await self.call(
            partial(_executed, self._conn, beginning, function, sql, parameters)
        )
        return executed

    async def call(self, function: Any) -> Any:
        """Call a function on the thread."""
        return await self._execute(function)  # type: ignore[no-untyped-call]

    async def commit(self) -> None:
        """Commit, where anything has begun."""
        self._due = ""
        if self._open:
            await super().commit()
            self._open = False

    async def rollback(self) -> None:
        """Roll back, where anything has begun."""
        self._due = ""
        if self._open:
            await super().rollback()
            self._open = False


def _executed(
    connection: sqlite3.Connection, beginning: str, function: Any, sql: str, parameters: Iterable[Any]
) -> tuple[sqlite3.Cursor, list[Any]]:
    if beginning:
        connection.execute(beginning)
    cursor = function(connection, sql, parameters)
    return cursor, cursor.fetchmany(_ROWS_AHEAD) if cursor.description else []
