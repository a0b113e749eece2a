import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, update

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import migrations
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import FailedPrecondition

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("things", sa.Column("id", sa.Integer(), primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("more", sa.Column("id", sa.Integer(), primary_key=True))
    {}
"""
THINGS = MetaData()
Table("things", THINGS, Column("id", Integer(), primary_key=True))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of migrations with one revision; its name is new for each test."""
    name = f"migrations_{tmp_path.name.replace('-', '_')}"
    versions = tmp_path / "packages" / name / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "__init__.py").touch()
    (versions / "0001_things.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    return name


def _add_second(package: str, tmp_path: Path, last_line: str = "") -> None:
    path = tmp_path / "packages" / package / "versions" / "0002_more.py"
    path.write_text(SECOND.format(last_line))


async def test_the_tables_of_the_models_are_those_of_the_migrations(database: Database) -> None:
    assert await migrations.differences(database, MetaData()) == []


async def test_what_the_migrations_lack_is_named(database: Database) -> None:
    (missing,) = await migrations.differences(database, THINGS)
    assert "things" in repr(missing)


async def test_a_service_is_brought_to_its_newest_revision_step_by_step(
    database: Database, package: str, tmp_path: Path
) -> None:
    assert await migrations.pending(database, package)
    await migrations.upgrade(database, package)
    assert not await migrations.pending(database, package)
    assert await migrations.differences(database, THINGS) == []
    _add_second(package, tmp_path)
    assert await migrations.pending(database, package)
    await migrations.upgrade(database, package)
    assert not await migrations.pending(database, package)


async def test_processes_that_start_at_once_migrate_once(database_url: str, package: str) -> None:
    async def start() -> None:
        async with databases.opened(database_url, service="test") as database:
            await migrations.upgrade(database, package)
            assert not await migrations.pending(database, package)

    await asyncio.gather(*(start() for _ in range(4)))


async def test_a_migration_that_fails_leaves_no_trace(database: Database, package: str, tmp_path: Path) -> None:
    _add_second(package, tmp_path, "raise LookupError")
    with pytest.raises(LookupError):
        await migrations.upgrade(database, package)
    tables = await migrations.differences(database, MetaData())
    assert tables == []


async def test_an_up_to_date_database_costs_no_alembic(
    database: Database, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrations.upgrade(database, package)
    monkeypatch.setattr(migrations, "_upgrade", None)
    await migrations.upgrade(database, package)


async def test_a_database_of_a_later_release_is_refused_in_words(database: Database, package: str) -> None:
    await migrations.upgrade(database, package)
    versions = Table("service_version", MetaData(), Column("version_num"))
    async with database.transaction(background()) as tx:
        await tx.connection.execute(update(versions).values(version_num="0009"))
    with pytest.raises(FailedPrecondition, match="later release") as refused:
        await migrations.upgrade(database, package)
    assert refused.value.reason == "DATABASE_TOO_NEW"


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        migrations._folder("no_such_package")
