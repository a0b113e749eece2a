"""Column types and statements that mean the same on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Dialect,
    Executable,
    Insert,
    String,
    Table,
    TypeDecorator,
    delete,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

S = TypeVar("S", bound=Executable)
BY_KEY = "by_key"
"""The execution option of a statement that finds a few rows by an index."""
FEW = 20
"""How many times such a statement is run on SQLite without a hop to a thread."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def text(length: int | None = None) -> TypeEngine[str]:
    """Text compared by bytes on both: ids, names that are keys, cursors. `length` is in characters."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Timestamp(TypeDecorator[datetime]):
    """An aware UTC datetime: ``timestamptz`` on PostgreSQL, on SQLite (which has none) microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See the class."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuses naive datetimes: they mean another instant on another machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a timestamp needs a time zone")
        return value if dialect.name == "postgresql" else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """See the class."""
        if value is None:
            return None
        return value.astimezone(UTC) if isinstance(value, datetime) else _EPOCH + timedelta(microseconds=value)


class _InsertMissing(Insert):
    """INSERT … ON CONFLICT DO NOTHING; both databases spell it alike."""

    inherit_cache = True


@compiles(_InsertMissing)
def _compile_insert_missing(statement: _InsertMissing, compiler: SQLCompiler, **options: Any) -> str:
    plain: str = compiler.visit_insert(statement, **options)  # type: ignore[no-untyped-call]
    return plain + " ON CONFLICT DO NOTHING"


def insert_missing(table: Table) -> Insert:
    """An insert of rows that leaves those alone whose key exists; `rowcount` tells which it was."""
    return _InsertMissing(table)


def by_key(statement: S) -> S:
    """The same statement, said to find a few rows by an index: on SQLite it then takes no hop to a thread."""
    return statement.execution_options(**{BY_KEY: True})


async def delete_older(connection: AsyncConnection, table: Table, before: datetime, limit: int) -> int:
    """Delete up to `limit` rows whose `create_time` is before a moment; how many were deleted."""
    key = tuple(table.primary_key.columns)
    old = select(*key).where(table.c.create_time < before).order_by(table.c.create_time).limit(limit)
    return (await connection.execute(delete(table).where(tuple_(*key).in_(old)))).rowcount
