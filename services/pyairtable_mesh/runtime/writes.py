"""Statements that write a few rows, and that almost every change has: made once, and run past SQLAlchemy.

SQLAlchemy takes three times as long for such a statement as SQLite does, and half as long as a round trip to
PostgreSQL. What it is for, to spell a statement and to turn Python's values into the database's, is done once here.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, Dialect, Insert, TextualSelect, Update, exc
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.columns import FEW, by_key

if TYPE_CHECKING:
    import asyncpg

Values = Mapping[str, Any]
Statement = Insert | Update | Delete | TextualSelect
Maker = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Spelt:
    """A statement for one database: its text, its parameters in order, each with what makes its value for the database,
    and what makes Python's values of the columns it returns.
    """

    sql: str
    parameters: Sequence[tuple[str, Maker | None]]
    columns: Sequence[Maker | None]

    @classmethod
    def of(cls, statement: Statement, dialect: Dialect, names: Sequence[str]) -> "_Spelt":
        columns = list(names) if isinstance(statement, Insert | Update) else None
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)
        makers = {bind.key: bind.type.dialect_impl(dialect).bind_processor(dialect) for bind in compiled.bind_names}
        returned = statement.selected_columns if isinstance(statement, TextualSelect) else ()
        return cls(
            compiled.string,
            [(name, makers[name]) for name in compiled.positiontup or ()],
            [each.type.dialect_impl(dialect).result_processor(dialect, None) for each in returned],
        )

    def row(self, values: Values) -> tuple[Any, ...]:
        return tuple([values[name] if maker is None else maker(values[name]) for name, maker in self.parameters])

    def returned(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple([each if maker is None else maker(each) for each, maker in zip(row, self.columns, strict=True)])


class _Prepared:
    def __init__(self, statement: Statement) -> None:
        self.statement = by_key(statement)
        self._spelt: dict[tuple[str, tuple[str, ...]], _Spelt] = {}

    def spelt(self, dialect: Dialect, names: Iterable[str]) -> _Spelt:
        key = dialect.name, tuple(names)
        spelt = self._spelt.get(key)
        if spelt is None:
            spelt = self._spelt[key] = _Spelt.of(self.statement, dialect, key[1])
        return spelt


class Write(_Prepared):
    """A statement that writes rows which it finds by an index, without RETURNING; called for each time it is run."""

    def __init__(self, statement: Insert | Update | Delete) -> None:
        super().__init__(statement)

    async def __call__(self, connection: AsyncConnection, rows: Sequence[Values]) -> int:
        """Run it for each of `rows`, one at least, of the same names. How many rows one has changed; of several rows
        asyncpg does not say it. Errors are SQLAlchemy's.
        """
        driven = _driver_of(connection)
        if driven is None or (len(rows) > FEW and isinstance(driven, sqlite.Connection)):
            return (await connection.execute(self.statement, rows if len(rows) > 1 else rows[0])).rowcount
        spelt = self.spelt(connection.dialect, rows[0])
        parameters = [spelt.row(each) for each in rows]
        if isinstance(driven, sqlite.Connection):
            with _of_sqlite(spelt.sql):
                return driven.write(spelt.sql, parameters)
        if len(rows) > 1:
            await _asked(connection, spelt.sql, driven.executemany(spelt.sql, parameters))
            return -1
        status: str = await _asked(connection, spelt.sql, driven.execute(spelt.sql, *parameters[0]))
        return int(status.rpartition(" ")[2])  # "INSERT 0 1", "DELETE 1"


class Returning(_Prepared):
    """A text that writes at most one row, which it finds by an index, and returns it by columns that are typed."""

    def __init__(self, statement: TextualSelect) -> None:
        super().__init__(statement)

    async def __call__(self, connection: AsyncConnection, values: Values) -> Sequence[Any] | None:
        """Run it; None where it has found no row. Errors are SQLAlchemy's."""
        driven = _driver_of(connection)
        if driven is None:
            return (await connection.execute(self.statement, values)).one_or_none()
        spelt = self.spelt(connection.dialect, values)
        parameters = spelt.row(values)
        row: Sequence[Any] | None
        if isinstance(driven, sqlite.Connection):
            with _of_sqlite(spelt.sql):
                row = driven.returned(spelt.sql, parameters)
        else:
            rows: Sequence[Any] = await _asked(connection, spelt.sql, driven.fetch(spelt.sql, *parameters))
            row = next(iter(rows), None)
        return None if row is None else spelt.returned(row)


def _driver_of(connection: AsyncConnection) -> "sqlite.Connection | asyncpg.Connection | None":
    """The driver's own connection; None where SQLAlchemy is to begin the transaction, or to wait for the thread."""
    assert connection.sync_connection is not None
    driven: Any = connection.sync_connection.connection.driver_connection
    ready = driven.at_hand if isinstance(driven, sqlite.Connection) else driven.is_in_transaction()
    return driven if ready else None


@contextmanager
def _of_sqlite(sql: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise sqlite.translated(error, sql) from error


async def _asked(connection: AsyncConnection, sql: str, answer: Awaitable[Any]) -> Any:
    """What PostgreSQL answers. After a statement that was cancelled SQLAlchemy lets nobody commit, nor is it done here:
    PostgreSQL would roll back, and not say so.
    """
    try:
        return await answer
    except Exception as error:
        if (translated := _translated(error, sql)) is None:
            raise
        raise translated from error
    except BaseException as error:
        await connection.invalidate(error)
        raise


def _translated(error: Exception, sql: str) -> exc.DBAPIError | None:
    """SQLAlchemy's error for asyncpg's; None for others."""
    from asyncpg import IntegrityConstraintViolationError, InterfaceError, PostgresError  # noqa: PLC0415 # an extra

    if isinstance(error, PostgresError):
        error.detail = None  # the values of the row, which would come into the log
        kind = exc.IntegrityError if isinstance(error, IntegrityConstraintViolationError) else exc.DBAPIError
        return kind(sql, (), error)
    if isinstance(error, InterfaceError):
        # A value that is none of the column's type, or a connection that was closed.
        return exc.InterfaceError(sql, (), error, connection_invalidated=not isinstance(error, ValueError))
    return None
