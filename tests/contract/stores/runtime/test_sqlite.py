"""An SQLite connection goes to its thread once for a statement, for one by key not at all, and no more is different."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import sqlite, sqlite_engine
from pyairtable_mesh.runtime.columns import by_key
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.sqlite_engine import Connection, _Engine
from pyairtable_mesh.runtime.tables import RUNTIME_VALUES
from pyairtable_mesh.runtime.worker import Worker
from tests.contract.runtime.permission_server import until
from tests.databases import caller

NAMES = select(RUNTIME_VALUES.c.name).order_by(RUNTIME_VALUES.c.name)
SLOW = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n")
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
    do = Worker.do

    def counting(self: Worker, function: Any) -> Any:
        found.append(getattr(function, "func", function).__name__)
        return do(self, function)

    monkeypatch.setattr(Worker, "do", counting)
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


async def test_nothing_runs_on_the_event_loop_beside_what_the_thread_is_doing(
    database: Database, hops: list[str]
) -> None:
    await _put(database, "1")
    async with database.read(background()) as connection:
        await connection.execute(NAMES)
        hops.clear()
        asking = asyncio.create_task(connection.execute(SLOW))
        await asyncio.sleep(0)
        assert (await connection.execute(by_key(NAMES))).scalars().all() == ["1"]
        assert asking.done()
        assert hops == ["_waiting", "_waiting"]
        assert (await connection.execute(by_key(NAMES))).scalars().all() == ["1"]
        assert hops == ["_waiting", "_waiting"]
        assert (await asking).scalar_one() == 300_000


async def test_a_statement_that_nobody_waits_for_any_more_ends(database: Database) -> None:
    long = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT max(i) FROM n")
    async with database.read(background()) as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert isinstance(raw, sqlite.Connection)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connection.execute(long)
        await until("the statement's end", lambda: raw._worker.idle)


async def test_a_change_that_failed_gives_its_connection_back_and_one_that_did_not_keeps_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[_Engine] = []
    connect = _Engine.connect

    def counting(engine: _Engine) -> Connection:
        made.append(engine)
        return connect(engine)

    monkeypatch.setattr(_Engine, "connect", counting)
    for name in ("1", "2", "3"):
        await _put(database, name)
    assert len(made) <= 1
    made.clear()
    with pytest.raises(IntegrityError):
        await _put(database, "4", "4")
    await _put(database, "5")
    assert len(made) == 1
    async with database.read(background()) as reading:
        assert (await reading.execute(NAMES)).scalars().all() == ["1", "2", "3", "5"]


async def test_a_process_hears_of_other_processes_changes_and_not_of_its_own(file: Path, database: Database) -> None:
    await _put(database, "1")
    async with databases.opened(f"sqlite:///{file}", service="test") as other:
        for name in ("2", "3"):
            heard, echo = database.changed_elsewhere.upcoming(), other.changed_elsewhere.upcoming()
            await _put(other, name)
            await until("word of the other's change", heard.is_set)
            with pytest.raises(IntegrityError):
                await _put(other, name)
            await asyncio.sleep(2 * sqlite_engine.LOOK_SECONDS)
            assert not echo.is_set()


async def test_a_change_is_told_when_those_before_it_do_not_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_engine, "QUEUE_SECONDS", 0.01)
    async with database.transaction(caller("ten1")):
        with pytest.raises(Unavailable, match="busy"):
            async with database.transaction(caller("ten2")):
                pass
    async with database.transaction(caller("ten2")):
        pass


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
