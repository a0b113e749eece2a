"""The thread of an SQLite connection is gone to once for a statement, and no more than that is different."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.tables import RUNTIME_VALUES
from tests.databases import caller

NAMES = select(RUNTIME_VALUES.c.name).order_by(RUNTIME_VALUES.c.name)
MANY = [f"{number:04}" for number in range(2_500)]


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    file = tmp_path / "a.db"
    async with (
        databases.opened(f"sqlite:///{file}", service="test") as database,
        database.transaction(background()) as transaction,
    ):
        await transaction.connection.run_sync(RUNTIME_VALUES.metadata.create_all)
    return file


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    async with databases.opened(f"sqlite:///{file}", service="test") as database:
        yield database


@pytest.fixture
def hops(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that connections call on their threads, by name."""
    found: list[str] = []
    execute = sqlite.Connection._execute

    async def counting(self: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        called = getattr(function, "func", function)
        found.append(called.__name__)
        return await execute(self, function, *arguments, **named)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(sqlite.Connection, "_execute", counting)
    return found


async def _put(database: Database, *names: str) -> None:
    async with database.transaction(background()) as transaction:
        rows = [{"name": each, "value": b""} for each in names]
        await transaction.connection.execute(insert(RUNTIME_VALUES), rows)


async def test_a_statement_is_one_hop_and_so_are_commit_and_rollback(database: Database, hops: list[str]) -> None:
    await _put(database, "0")
    hops.clear()
    async with database.transaction(caller("ten1")) as transaction:
        await transaction.connection.execute(insert(RUNTIME_VALUES), {"name": "1", "value": b""})
        assert (await transaction.connection.execute(NAMES)).scalars().all() == ["0", "1"]
    assert hops == ["_executed", "_executed", "_executed", "commit"]  # the first takes the writer's turn
    hops.clear()
    async with database.read(caller("ten1")) as connection:
        assert (await connection.execute(NAMES)).scalars().all() == ["0", "1"]
    assert hops[-2:] == ["_executed", "rollback"]


async def test_a_transaction_without_a_statement_locks_nobody_out(file: Path, database: Database) -> None:
    async with database._writer.begin(), databases.opened(f"sqlite:///{file}", service="test") as other:
        await _put(other, "1")


async def test_a_writer_that_does_not_come_to_its_turn_is_told(file: Path, database: Database) -> None:
    async with databases.opened(f"sqlite:///{file}", service="test") as other:
        async with other._writer.connect() as connection:
            await connection.execute(text("PRAGMA busy_timeout = 1"))
        async with database.transaction(background()):
            with pytest.raises(Unavailable):
                await _put(other, "1")
        await _put(other, "2")
    async with database.read(background()) as reading:
        assert (await reading.execute(NAMES)).scalars().all() == ["2"]


async def test_more_rows_than_come_with_their_statement_are_all_there(database: Database) -> None:
    await _put(database, *MANY)
    async with database.read(background()) as connection:
        assert (await connection.execute(NAMES)).scalars().all() == MANY
        assert (await connection.execute(NAMES.limit(1_000))).scalars().all() == MANY[:1_000]
        streamed = await connection.stream(NAMES)
        assert [name async for part in streamed.scalars().partitions(300) for name in part] == MANY
        assert (await (await connection.stream(NAMES)).scalars().fetchmany(1_200)) == MANY[:1_200]


async def test_what_a_reader_left_half_read_holds_nobody_up(database: Database) -> None:
    await _put(database, *MANY)
    async with database.transaction(background()) as transaction:
        streamed = await transaction.connection.stream(NAMES)
        assert (await streamed.scalars().fetchmany(2)) == MANY[:2]
        await streamed.close()
        await transaction.connection.execute(text("DROP TABLE consumers"))
    await _put(database, "z")
