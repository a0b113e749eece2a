"""Statements that write a few rows, and that almost every change has: made once, and run past SQLAlchemy on SQLite.

SQLAlchemy takes three times as long for such a statement as SQLite does. What it is for, to spell it for a database
and to turn Python's values into that one's, does not change from one run to the next.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Dialect, Insert, Update, exc
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from pyairtable_mesh.runtime import sqlite_engine
from pyairtable_mesh.runtime.columns import by_key

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Spelt:
    """A statement for SQLite: its text, and its parameters in order, each with what makes SQLite's value of it."""

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
        self._spelt: dict[tuple[str, ...], _Spelt] = {}

    async def __call__(self, connection: AsyncConnection, rows: Sequence[Values]) -> int:
        """Run it for each of `rows`, one at least, of the same names. How many rows one has changed; of several rows
        asyncpg does not say it. Errors are SQLAlchemy's.
        """
        if not isinstance(connection, sqlite_engine.Connection) or not connection.may_write_at_once(len(rows)):
            return (await connection.execute(self._statement, rows if len(rows) > 1 else rows[0])).rowcount
        spelt = self._on(connection.dialect, tuple(rows[0]))
        try:
            return connection.write_at_once(spelt.sql, [spelt.row(each) for each in rows])
        except sqlite3.Error as error:
            # They have the same names in both (PEP 249).
            raise getattr(exc, type(error).__name__)(spelt.sql, (), error) from error

    def _on(self, dialect: Dialect, names: tuple[str, ...]) -> _Spelt:
        spelt = self._spelt.get(names)
        if spelt is None:
            spelt = self._spelt[names] = _Spelt.of(self._statement, dialect, names)
        return spelt
