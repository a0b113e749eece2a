"""A driver of SQLite for SQLAlchemy's asyncio: what takes microseconds on the event loop, the rest on a thread.

A hop to a thread and back takes ten times as long as SQLite does for a row by its key. So a statement that says of
itself that it finds a few rows by an index (`columns.by_key`) runs where it stands, and fails as busy if it would have
to wait there; `sqlite_engine` asks again then. All others, and what syncs to the disk, go to the connection's thread:
once for a statement, which brings its rows with it, or its first ones where they are streamed. The first statement of
a transaction begins it, and what was committed is not rolled back.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import AsyncAdaptedQueuePool, Pool, exc
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_

from pyairtable_mesh.runtime.columns import BY_KEY
from pyairtable_mesh.runtime.worker import Worker

T = TypeVar("T")
DRIVER = "sqlite+pyairtable"
_ROWS_AHEAD = 1_000
"""How many rows come with their statement where they are streamed."""
WAIT_MILLISECONDS = 5_000
"""How long a change waits for the writer before it."""


class Cursor:
    """One statement and what came of it, as SQLAlchemy uses a driver's cursor (PEP 249); `streamed`, not all rows."""

    def __init__(self, connection: "Connection", *, streamed: bool) -> None:
        self._connection = connection
        self._streamed = streamed
        self._cursor: sqlite3.Cursor | None = None
        self._ahead: list[Any] = []
        self._more = False
        self.arraysize = 1

    def execute(self, sql: str, parameters: Any = (), *, at_once: bool = False) -> None:
        """Run a statement; `at_once` on the event loop."""
        self._run(sqlite3.Connection.execute, sql, parameters, at_once)

    def executemany(self, sql: str, parameters: Sequence[Any], *, at_once: bool = False) -> None:
        """Run a statement for each of some parameters."""
        self._run(sqlite3.Connection.executemany, sql, parameters, at_once)

    def _run(self, function: Any, sql: str, parameters: Any, at_once: bool) -> None:
        executed = partial(_executed, self._connection.driven, function, sql, parameters, self._streamed)
        self._cursor, self._ahead = self._connection.run(executed, at_once=at_once)
        self._more = self._streamed and len(self._ahead) == _ROWS_AHEAD

    def fetchone(self) -> Any:
        """The next row; None behind the last."""
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Up to so many rows."""
        wanted = self.arraysize if size is None else size
        rows, self._ahead = self._ahead[:wanted], self._ahead[wanted:]
        if self._more and len(rows) < wanted:
            missing, self._more = wanted - len(rows), False
            found = self._connection.call(partial(self._fetching().fetchmany, missing))
            self._more = len(found) == missing
            rows += found
        return rows

    def fetchall(self) -> Sequence[Any]:
        """All further rows."""
        rows, self._ahead = self._ahead, []
        if self._more:
            self._more = False
            rows += self._connection.call(self._fetching().fetchall)
        return rows

    def close(self) -> None:
        """Give up rows that were not fetched; without any the statement has ended."""
        if self._more:
            self._more = False
            self._connection.call(self._fetching().close)

    async def _async_soft_close(self) -> None:
        """For SQLAlchemy's results; `close` follows."""

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


class Connection:
    """A connection whose transactions begin with their first statement; one that `writes` takes the writer's turn then.

    Its methods wait inside of SQLAlchemy's greenlets only.
    """

    def __init__(self, path: str, *, writes: bool) -> None:
        self._worker = Worker("sqlite")
        self._writes = writes
        self._begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        self._wait = WAIT_MILLISECONDS
        self._due = False
        self._open = False
        self._began = False
        # isolation_level None leaves BEGIN to us: the driver's own would come late, and never before a SELECT.
        connect = partial(sqlite3.connect, path, self._wait / 1e3, isolation_level=None, check_same_thread=False)
        try:
            self.driven: sqlite3.Connection = self.call(connect)
        except BaseException:
            self._worker.end(_nothing)
            raise

    def begin(self) -> None:
        """Let the next statement begin a transaction."""
        self._due = True

    def cursor(self, server_side: bool = False) -> Cursor:
        """A cursor for one statement."""
        return Cursor(self, streamed=server_side)

    def run(self, function: Callable[[], T], *, at_once: bool) -> T:
        """Run a statement; `at_once` on the event loop, where it fails as busy rather than wait."""
        self._require_transaction()
        due, self._due = self._due, False
        # Before the hop, not behind it: whoever is cancelled meanwhile leaves a transaction to roll back.
        self._open = True
        statement = partial(self._begun, function) if due else function
        if not at_once:
            return self.call(partial(self._waiting, WAIT_MILLISECONDS, statement))
        if not self._worker.idle:
            self._due = due
            raise _busy("the connection's thread is in the midst of a statement")
        try:
            return self._waiting(0, statement)
        except sqlite3.OperationalError:
            self._due = due
            raise

    @property
    def at_hand(self) -> bool:
        """Whether its transaction has begun, and its thread has nothing to do with it."""
        return self._worker.idle and self.driven.in_transaction

    def write(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement for each of some rows on the event loop, in a transaction that is `at_hand`; how many rows
        were changed.
        """
        if len(rows) == 1:
            return self.driven.execute(sql, rows[0]).rowcount
        return self.driven.executemany(sql, rows).rowcount

    def returned(self, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Run a statement that returns at most one row, as for `write`."""
        return next(iter(self.driven.execute(sql, parameters).fetchall()), None)

    def data_version(self) -> int:
        """A number that is another one after commits of other connections; outside of transactions, without waiting."""
        number: int = self._waiting(0, lambda: self.driven.execute("PRAGMA data_version").fetchone()[0])
        return number

    def _begun(self, function: Callable[[], T]) -> T:
        if not self.driven.in_transaction:
            self.driven.execute(self._begin)
            self._began = True
        return function()

    def _require_transaction(self) -> None:
        """Nothing is done for a transaction that SQLite has rolled back, as it does when the disk is full."""
        if self._began and self._worker.idle and not self.driven.in_transaction:
            raise sqlite3.OperationalError("SQLite has rolled this transaction back")

    def _waiting(self, milliseconds: int, function: Callable[[], T]) -> T:
        """Call a function, which waits for locks at most so long."""
        if self._wait != milliseconds:
            self.driven.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._wait = milliseconds
        return function()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the thread."""
        result: T = await_(self._worker.do(function))
        return result

    def commit(self) -> None:
        """Commit, where anything has begun."""
        self._due = False
        if self._open:
            self._require_transaction()
            # Who is cancelled from here on has committed: what the block did is not done again.
            self.call(self.driven.commit)
            self._open = self._began = False

    def rollback(self) -> None:
        """Roll back, where anything has begun."""
        self._due = False
        if self._open:
            if self._writes or not self._worker.idle:
                self.call(self.driven.rollback)
            else:
                self.driven.rollback()
            self._open = self._began = False

    def close(self) -> None:
        """Close it, behind what the thread is still doing."""
        try:
            self.call(self._end)
        finally:
            self._worker.end(_nothing)

    def terminate(self) -> None:
        """Close it, without waiting for that; what is still read is wanted by nobody any more."""
        if not self._writes:
            self.driven.interrupt()
        self._worker.end(self._end)

    def _end(self) -> None:
        # In the midst of its transaction when a client cancels its call. SQLite itself would keep the transaction, and
        # with it the lock of the one writer, until the last cursor is garbage-collected.
        with contextlib.suppress(sqlite3.Error):
            self.driven.rollback()
        self.driven.close()


def begin(connection: SyncConnection, *, at_once: bool) -> None:
    """Begin the transaction now, for which one that writes waits for the writer before it; errors as of a statement."""
    driven = connection.connection.driver_connection
    assert isinstance(driven, Connection)
    try:
        driven.run(_nothing, at_once=at_once)
    except sqlite3.Error as error:
        raise translated(error, "BEGIN") from error


def translated(error: sqlite3.Error, sql: str) -> DBAPIError:
    """SQLAlchemy's error for the driver's; they have the same names in both (PEP 249)."""
    kind: type[DBAPIError] = getattr(exc, type(error).__name__, DBAPIError)
    return kind(sql, (), error)


def is_busy(error: DBAPIError) -> bool:
    """Whether something else holds what was wanted."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _busy(why: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(why)
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
    return error


def _nothing() -> None:
    pass


def _executed(
    connection: sqlite3.Connection, function: Any, sql: str, parameters: Any, streamed: bool
) -> tuple[sqlite3.Cursor, list[Any]]:
    cursor = function(connection, sql, parameters)
    return cursor, cursor.fetchmany(_ROWS_AHEAD) if streamed else cursor.fetchall()


class _Context(SQLiteExecutionContext):
    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(server_side=True)


class Dialect(SQLiteDialect_pysqlite):
    """SQLAlchemy's SQLite with `Connection`."""

    driver = "pyairtable"
    is_async = True
    has_terminate = True
    supports_statement_cache = True
    supports_server_side_cursors = True
    execution_ctx_cls = _Context

    @classmethod
    def get_pool_class(cls, url: URL) -> type[Pool]:
        """See SQLAlchemy."""
        return AsyncAdaptedQueuePool

    def on_connect(self) -> Any:
        """None of the functions that SQLAlchemy would add."""
        return None

    def connect(self, *path: Any, **options: Any) -> Any:
        """A new connection."""
        return Connection(path[0], writes=options["writes"])

    def do_begin(self, dbapi_connection: Any) -> None:
        """See `Connection.begin`."""
        dbapi_connection.begin()

    def do_terminate(self, dbapi_connection: Any) -> None:
        """See `Connection.terminate`."""
        dbapi_connection.terminate()

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """See `Cursor.execute`."""
        cursor.execute(statement, parameters, at_once=_says_by_key(context))

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """See `Cursor.executemany`."""
        cursor.executemany(statement, parameters, at_once=_says_by_key(context))


def _says_by_key(context: Any) -> bool:
    return context is not None and context.execution_options.get(BY_KEY, False)


registry.register("sqlite.pyairtable", __name__, "Dialect")
