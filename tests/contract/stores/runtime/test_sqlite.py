"""An SQLite connection goes to its thread once for a statement, for one by key not at all, and no more is different."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.columns import by_key
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.tables import RUNTIME_VALUES
from tests.contract.runtime.permission_server import until
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
    submit = sqlite.Connection._submit

    def counting(self: sqlite.Connection, function: Any) -> Any:
        found.append(getattr(function, "func", function).__name__)
        return submit(self, function)

    monkeypatch.setattr(sqlite.Connection, "_submit", counting)
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
    assert hops == ["_waiting", "_waiting", "commit"]
    hops.clear()
    async with database.read(caller("ten1")) as connection:
        assert (await connection.execute(NAMES)).scalars().all() == ["0", "1"]
    assert hops == ["_waiting"]  # nothing was written that a rollback would take back


async def test_a_change_by_key_takes_no_hop_but_its_commit(database: Database, hops: list[str]) -> None:
    await _put(database, "0")
    hops.clear()
    async with database.transaction(caller("ten1")) as transaction:
        await transaction.connection.execute(by_key(insert(RUNTIME_VALUES)), {"name": "1", "value": b""})
        assert (await transaction.connection.execute(by_key(NAMES))).scalars().all() == ["0", "1"]
    assert hops == ["commit"]
    hops.clear()
    async with database.read(caller("ten1")) as connection:
        assert (await connection.execute(by_key(NAMES))).scalars().all() == ["0", "1"]
    assert hops == []


async def test_who_waits_for_another_writer_waits_beside_the_event_loop(
    file: Path, database: Database, hops: list[str]
) -> None:
    async with databases.opened(f"sqlite:///{file}", service="test") as other:
        async with database.transaction(caller("ten1")):
            hops.clear()
            writing = asyncio.create_task(_put(other, "1"))
            await until("the other writer", lambda: "_waiting" in hops)
            assert not writing.done()
        await writing
    async with database.read(background()) as reading:
        assert (await reading.execute(NAMES)).scalars().all() == ["1"]


async def test_many_rows_are_not_written_on_the_event_loop(database: Database, hops: list[str]) -> None:
    async with database.transaction(caller("ten1")) as transaction:
        hops.clear()
        rows = [{"name": each, "value": b""} for each in MANY]
        await transaction.connection.execute(by_key(insert(RUNTIME_VALUES)), rows)
        assert hops == ["_waiting"]


async def test_nothing_runs_on_the_event_loop_beside_what_the_thread_was_left_with(database: Database) -> None:
    slow = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n")
    async with database.read(background()) as connection:
        await connection.execute(NAMES)
        raw: sqlite.Connection = (await connection.get_raw_connection()).driver_connection
        assert raw._at_hand()
        asking = asyncio.create_task(connection.execute(slow))
        await asyncio.sleep(0)
        assert not raw._at_hand()
        assert (await asking).scalar_one() == 300_000
        assert raw._at_hand()


async def test_a_transaction_without_a_statement_locks_nobody_out(file: Path, database: Database) -> None:
    async with database._writer.begin(), databases.opened(f"sqlite:///{file}", service="test") as other:
        await _put(other, "1")


async def test_a_writer_that_does_not_come_to_its_turn_is_told(
    file: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAIT_MILLISECONDS", 1)
    async with databases.opened(f"sqlite:///{file}", service="test") as other:
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
