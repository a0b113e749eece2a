"""Statements that write a few rows, and that almost every change has: made once, and run past SQLAlchemy.

SQLAlchemy takes three times as long for such a statement as SQLite does, and half as long as a round trip to
PostgreSQL. What it is for, to spell a statement and to turn Python's values into the database's, is done once here.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, Dialect, Insert, Update, exc
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.columns import FEW, by_key

if TYPE_CHECKING:
    import asyncpg

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Spelt:
    """A statement for one database: its text, and its parameters in order, each with what makes its value for it."""

    sql: str
    parameters: Sequence[tuple[str, Callable[[Any], Any] | None]]

    @classmethod
    def of(cls, statement: Insert | Update | Delete, dialect: Dialect, names: Sequence[str]) -> "_Spelt":
        columns = None if isinstance(statement, Delete) else list(names)
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)
        makers = {bind.key: bind.type.dialect_impl(dialect).bind_processor(dialect) for bind in compiled.bind_names}
        return cls(compiled.string, [(name, makers[name]) for name in compiled.positiontup or ()])

    def row(self, values: Values) -> tuple[Any, ...]:
        return tuple([values[name] if maker is None else maker(values[name]) for name, maker in self.parameters])


class Write:
    """A statement that writes rows which it finds by an index, without RETURNING; called for each time it is run."""

    def __init__(self, statement: Insert | Update | Delete) -> None:
        self._statement = by_key(statement)
        self._spelt: dict[tuple[str, tuple[str, ...]], _Spelt] = {}

    async def __call__(self, connection: AsyncConnection, rows: Sequence[Values]) -> int:
        """Run it for each of `rows`, one at least, of the same names. How many rows one has changed; of several rows
        asyncpg does not say it. Errors are SQLAlchemy's.
        """
        driven: Any = connection.sync_connection and connection.sync_connection.connection.driver_connection
        if isinstance(driven, sqlite.Connection):
            if len(rows) <= FEW and driven.at_hand:
                return _on_sqlite(driven, *self._spell(connection.dialect, rows))
        elif driven.is_in_transaction():
            return await _on_postgresql(driven, *self._spell(connection.dialect, rows))
        return (await connection.execute(self._statement, rows if len(rows) > 1 else rows[0])).rowcount

    def _spell(self, dialect: Dialect, rows: Sequence[Values]) -> tuple[str, list[tuple[Any, ...]]]:
        names = tuple(rows[0])
        spelt = self._spelt.get((dialect.name, names))
        if spelt is None:
            spelt = self._spelt[dialect.name, names] = _Spelt.of(self._statement, dialect, names)
        return spelt.sql, [spelt.row(each) for each in rows]


def _on_sqlite(driven: sqlite.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    try:
        return driven.write(sql, rows)
    except sqlite3.Error as error:
        # They have the same names in both (PEP 249).
        raise getattr(exc, type(error).__name__)(sql, (), error) from error


async def _on_postgresql(driven: "asyncpg.Connection", sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    try:
        if len(rows) > 1:
            await driven.executemany(sql, rows)
            return -1
        # "INSERT 0 1", "DELETE 1"
        return int((await driven.execute(sql, *rows[0])).rpartition(" ")[2])
    except Exception as error:
        if (told := _told(sql, error)) is None:
            raise
        raise told from error


def _told(sql: str, error: Exception) -> exc.DBAPIError | None:
    """What SQLAlchemy says where asyncpg says `error`."""
    from asyncpg import IntegrityConstraintViolationError, InterfaceError, PostgresError  # noqa: PLC0415 # 50 ms

    if isinstance(error, IntegrityConstraintViolationError):
        return exc.IntegrityError(sql, (), error)
    if isinstance(error, PostgresError):
        return exc.DBAPIError(sql, (), error)
    if isinstance(error, InterfaceError):
        # A value that is none of the column's type, or a connection that was closed.
        return exc.InterfaceError(sql, (), error, connection_invalidated=not isinstance(error, ValueError))
    return None
