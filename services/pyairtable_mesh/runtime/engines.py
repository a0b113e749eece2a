"""SQLAlchemy engines: a writer and a reader for each kind of database, set up for what `database.py` promises.

Statements' parameters are hidden from the texts of errors: they are what people wrote, and would come into the log.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Dialect, NullPool
from sqlalchemy import event as hooks
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pyairtable_mesh.runtime.database_faults import reaching

_ASYNCPG = "postgresql+asyncpg"
QUEUE_SECONDS = 10.0
"""How long a task waits for a free connection."""
_POSTGRES_SETTINGS = {
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "60000",
    "timezone": "UTC",
    # Short statements by index: compiling them costs more than they do.
    "jit": "off",
}


def parsed(url: str) -> URL:
    """The URL of a database that is supported; ValueError in words without it, for it may hold a password."""
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        target = None
    kind = target.get_backend_name() if target is not None else ""
    if target is None or kind not in {"sqlite", "postgresql"}:
        raise ValueError("a database is sqlite:///folder/name.db or postgresql://user:password@host/name")
    if kind == "sqlite" and target.database in {None, "", ":memory:"}:
        raise ValueError("SQLite needs a file: sqlite:///folder/name.db")
    return target


def unpooled(url: URL) -> AsyncEngine:
    """For connections that are kept, outside of any pool."""
    return create_async_engine(url.set(drivername=_ASYNCPG), poolclass=NullPool)


def on_postgresql(url: URL, pool_size: int, statement_timeout: timedelta) -> tuple[AsyncEngine, AsyncEngine]:
    """One pool, two ways to begin: READ COMMITTED for changes, a read-only snapshot for reads."""
    settings = {**_POSTGRES_SETTINGS, "statement_timeout": str(statement_timeout // timedelta(milliseconds=1))}
    writer = create_async_engine(
        url.set(drivername=_ASYNCPG),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=QUEUE_SECONDS,
        connect_args={"timeout": 5, "server_settings": settings},
        hide_parameters=True,
        isolation_level="READ COMMITTED",
    )
    hooks.listen(writer.sync_engine, "do_connect", _reach)
    return writer, writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _reach(dialect: Dialect, _: Any, arguments: Any, options: Any) -> Any:
    with reaching():
        return dialect.connect(*arguments, **options)
