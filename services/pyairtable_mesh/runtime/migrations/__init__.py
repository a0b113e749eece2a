"""Schema migrations: Alembic, run from code, against a folder of numbered revisions inside a package.

A package of migrations has `versions/0001_<what>.py`, `0002_…`: the number is the revision, the order is linear. The
runtime's own tables (`runtime/tables.py`) have such a folder too and are migrated first, under a version table of
their own, so that a service never mentions them. Processes that start at once wait for the first of them: the lock
is BEGIN IMMEDIATE on SQLite, an advisory lock on PostgreSQL; a run of migrations is one transaction on both.

Alembic costs 0.2 s to import: it is imported only when there is something to migrate.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, MetaData, column, inspect, select, table, text

from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import FailedPrecondition
from pyairtable_mesh.runtime.tables import METADATA

_RUNTIME = "pyairtable_mesh.runtime.migrations"
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('pyairtable.migrations', hashtext(current_schema())))")


@dataclass(frozen=True, slots=True)
class _Chain:
    """One line of revisions and the table that says how far a database is along it."""

    versions: Path
    version_table: str

    def newest(self) -> str:
        return max((path.stem.partition("_")[0] for path in self.versions.glob("[0-9]*_*.py")), default="")

    def stored(self, connection: Connection) -> str:
        if not inspect(connection).has_table(self.version_table):
            return ""
        versions = table(self.version_table, column("version_num"))
        return connection.execute(select(versions.c.version_num)).scalar_one_or_none() or ""


def _chains(package: str | None) -> list[_Chain]:
    chains = [_Chain(_folder(_RUNTIME) / "versions", "runtime_version")]
    if package is not None:
        chains.append(_Chain(_folder(package) / "versions", "service_version"))
    return chains


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not a package of migrations")
    return Path(spec.submodule_search_locations[0])


async def pending(database: Database, package: str | None) -> bool:
    """Whether the database is behind the migrations of `package` and the runtime (None: the runtime's alone).

    FailedPrecondition when it is ahead of them: it was migrated by a later release.
    """
    chains = _chains(package)
    async with database.read(background()) as connection:
        stored = [await connection.run_sync(chain.stored) for chain in chains]
    for chain, revision in zip(chains, stored, strict=True):
        if revision > chain.newest():
            raise FailedPrecondition(
                f"the database is at revision {revision} of {chain.version_table}, this release knows {chain.newest()}:"
                " it was migrated by a later release",
                reason="DATABASE_TOO_NEW",
            )
    return any(revision != chain.newest() for chain, revision in zip(chains, stored, strict=True))


async def upgrade(database: Database, package: str | None) -> None:
    """Bring the database to the newest revisions of the runtime and of `package`; cheap when it is there."""
    if not await pending(database, package):
        return
    async with database.transaction(background()) as transaction:
        if database.dialect == "postgresql":
            await transaction.connection.execute(_LOCK)
        for chain in _chains(package):
            await transaction.connection.run_sync(_upgrade, chain)


def _upgrade(connection: Connection, chain: _Chain) -> None:
    from alembic.config import Config  # noqa: PLC0415 - see the module's words
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory(str(chain.versions.parent), version_locations=[str(chain.versions)])

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table=chain.version_table, transactional_ddl=True)
        environment.run_migrations()


class Operations(Protocol):
    """What is used of Alembic's `op`."""

    def get_bind(self) -> Connection:
        """The connection that the migration runs on."""
        ...

    def execute(self, sqltext: str, /) -> object:
        """Run a statement."""
        ...


def secure_rows(op: Operations, *tables: str) -> None:
    """Bind `tables` (each with a `tenant_id`) to the transaction's tenant on PostgreSQL; the owner is bound too."""
    if op.get_bind().dialect.name != "postgresql":
        return
    own = "current_setting('pyairtable.tenant', true) IN (tenant_id, '*')"
    for name in tables:
        op.execute(f'ALTER TABLE "{name}" ENABLE ROW LEVEL SECURITY')
        op.execute(f'ALTER TABLE "{name}" FORCE ROW LEVEL SECURITY')
        op.execute(f'CREATE POLICY "{name}_of_tenant" ON "{name}" USING ({own}) WITH CHECK ({own})')


def _together(*parts: MetaData) -> MetaData:
    whole = MetaData()
    for part in parts:
        for each in part.tables.values():
            each.to_metadata(whole)
    return whole


async def differences(database: Database, metadata: MetaData) -> Sequence[object]:
    """How the migrated database differs from `metadata` and the runtime's tables, as Alembic says it; for tests."""

    def compare(connection: Connection) -> Sequence[object]:
        from alembic.autogenerate import compare_metadata  # noqa: PLC0415
        from alembic.migration import MigrationContext  # noqa: PLC0415

        known = {"runtime_version", "service_version"}
        options = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name not in known}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, _together(metadata, METADATA)))

    async with database.transaction(background()) as transaction:
        return await transaction.connection.run_sync(compare)
