"""`Write` and `Returning` leave and tell what SQLAlchemy would, and fail with its errors."""

import asyncio
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, PendingRollbackError, StatementError

from pyairtable_mesh.runtime import sqlite
from pyairtable_mesh.runtime.columns import FEW, Timestamp, insert_missing
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.moments import utc_now
from pyairtable_mesh.runtime.tables import CONSUMERS
from pyairtable_mesh.runtime.writes import Returning, Write
from tests.databases import caller

NOW = utc_now()
INSERT = Write(insert(CONSUMERS))
INSERT_MISSING = Write(insert_missing(CONSUMERS))
UPDATE = Write(update(CONSUMERS).where(CONSUMERS.c.name == bindparam("at")).values(cursor=bindparam("to")))
TOUCH = Returning(
    text("UPDATE consumers SET cursor = :to WHERE name = :at RETURNING name, update_time, NULL AS absent").columns(
        name=CONSUMERS.c.name.type, update_time=Timestamp(), absent=Timestamp()
    )
)
DELETE = Write(delete(CONSUMERS).where(CONSUMERS.c.name == bindparam("at")))


def row(name: str, cursor: str = "0.0", time: datetime = NOW) -> dict[str, Any]:
    return {"name": name, "cursor": cursor, "update_time": time}


async def write(database: Database, what: Write, *rows: dict[str, Any]) -> int:
    async with database.transaction(background()) as transaction:
        return await what(transaction.connection, rows)


async def stored(database: Database) -> Sequence[tuple[str, str, datetime]]:
    async with database.read(background()) as connection:
        rows = await connection.execute(select(CONSUMERS).order_by(CONSUMERS.c.name))
        return [(each.name, each.cursor, each.update_time) for each in rows]


async def test_rows_are_written_with_the_types_of_their_columns(database: Database) -> None:
    await write(database, INSERT, row("a"), row("b", "1.1"))
    assert await stored(database) == [("a", "0.0", NOW), ("b", "1.1", NOW)]


async def test_it_says_how_many_rows_it_has_changed(database: Database) -> None:
    await write(database, INSERT, row("a"), row("b"))
    assert await write(database, INSERT_MISSING, row("a", "2.2")) == 0
    assert await write(database, INSERT_MISSING, row("c")) == 1
    assert await write(database, UPDATE, {"at": "a", "to": "3.3"}) == 1
    assert await write(database, UPDATE, {"at": "z", "to": "3.3"}) == 0
    assert await write(database, DELETE, {"at": "b"}) == 1
    assert await stored(database) == [("a", "3.3", NOW), ("c", "0.0", NOW)]


async def test_a_row_that_is_returned_has_the_types_of_its_columns(database: Database) -> None:
    await write(database, INSERT, row("a"), row("b"))
    async with database.transaction(background()) as transaction:
        for name, expected in (("a", ("a", NOW, None)), ("z", None)):
            returned = await TOUCH(transaction.connection, {"at": name, "to": "4.4"})
            assert (None if returned is None else tuple(returned)) == expected
    assert [cursor for _, cursor, _ in await stored(database)] == ["4.4", "0.0"]
    async with database.read(background()) as connection:
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await TOUCH(connection, {"at": "a", "to": "5.5"})


async def test_names_may_come_in_another_order_and_number(database: Database) -> None:
    values = Write(update(CONSUMERS).where(CONSUMERS.c.name == bindparam("at")))
    await write(database, INSERT, row("a"))
    await write(database, values, {"at": "a", "cursor": "1.1"})
    await write(database, values, {"update_time": datetime.fromisoformat("2030-01-01T00:00Z"), "at": "a"})
    await write(database, INSERT, dict(reversed(row("b").items())))
    assert await stored(database) == [
        ("a", "1.1", datetime.fromisoformat("2030-01-01T00:00Z")),
        ("b", "0.0", NOW),
    ]


@pytest.mark.parametrize("rows", [1, 2, FEW + 1])
async def test_what_breaks_a_constraint_is_sqlalchemys_error_and_leaves_nothing(database: Database, rows: int) -> None:
    await write(database, INSERT, row("a"))
    with pytest.raises(IntegrityError):
        await write(database, INSERT, *(row(f"{number:02}") for number in range(rows - 1)), row("a"))
    assert await stored(database) == [("a", "0.0", NOW)]


async def test_an_error_does_not_tell_what_people_wrote(database: Database) -> None:
    await write(database, INSERT, row("secret"))
    for wrong in (row("secret"), {**row("b"), "cursor": None, "name": "secret 2"}):
        with pytest.raises(IntegrityError) as broken:
            await write(database, INSERT, wrong)
        assert "secret" not in "".join(traceback.format_exception(broken.value))


async def test_a_value_of_another_type_is_refused(database: Database) -> None:
    naive = datetime(2030, 1, 1)
    with pytest.raises((ValueError, StatementError, DataError)):
        await write(database, INSERT, row("a", time=naive))
    assert await stored(database) == []


@pytest.mark.parametrize("rows", [1, 2])
async def test_a_connection_that_breaks_is_said_to_be_away_and_the_next_one_works(
    database: Database, rows: int
) -> None:
    if database.dialect == "sqlite":
        return  # has none

    async def change() -> None:
        async with database.transaction(background()) as transaction:
            mine = (await transaction.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with database.read(background()) as other:
                await other.execute(text("SELECT pg_terminate_backend(:mine, 5000)"), {"mine": mine})
            await INSERT(transaction.connection, [row(f"{number}") for number in range(rows)])

    with pytest.raises(Unavailable, match="away"):
        await change()
    await write(database, INSERT, row("a"))
    assert await stored(database) == [("a", "0.0", NOW)]


async def test_what_was_cancelled_is_not_committed_by_who_goes_on(database: Database) -> None:
    if database.dialect == "sqlite":
        return  # nothing is waited for there

    async def change() -> None:
        async with database.transaction(caller("ten1")) as transaction:
            await INSERT(transaction.connection, [row("a")])
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await INSERT(transaction.connection, [row("held")])

    async with database.transaction(caller("ten2")) as other:
        await INSERT(other.connection, [row("held")])
        with pytest.raises(PendingRollbackError):
            await change()
    await write(database, INSERT, row("b"))
    assert [name for name, *_ in await stored(database)] == ["b", "held"]


async def test_what_sqlite_has_rolled_back_is_not_gone_on_with(database: Database) -> None:
    if database.dialect != "sqlite":
        return

    async def change(*names: str) -> None:
        async with database.transaction(background()) as transaction:
            await transaction.connection.execute(text("PRAGMA max_page_count = 30"))
            await INSERT(transaction.connection, [row("a")])
            with suppress(OperationalError):
                await INSERT(transaction.connection, [row("b", "x" * 1_000_000)])
            for name in names:
                await INSERT(transaction.connection, [row(name)])

    for names in ((), ("c",)):
        with pytest.raises(OperationalError, match="rolled this transaction back"):
            await change(*names)
    assert await stored(database) == []
    await write(database, INSERT, row("d"))
    assert await stored(database) == [("d", "0.0", NOW)]


async def test_who_is_cancelled_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    held = asyncio.Event()

    async def change() -> None:
        async with database.transaction(caller("ten1")) as transaction:
            await INSERT(transaction.connection, [row("a")])
            held.set()
            while True:
                await INSERT_MISSING(transaction.connection, [row("a")])
                await asyncio.sleep(0)

    changing = asyncio.create_task(change())
    await held.wait()
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    async with database.transaction(caller("ten1")) as transaction:
        await INSERT(transaction.connection, [row("a", "1.1")])
    assert await stored(database) == [("a", "1.1", NOW)]


async def test_many_rows_are_not_written_on_the_event_loop(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    written = sqlite.Connection.write

    def counting(connection: sqlite.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        at_once.append(len(rows))
        return written(connection, sql, rows)

    monkeypatch.setattr(sqlite.Connection, "write", counting)
    assert await write(database, INSERT, row("few")) == 1
    many = [row(f"{number:02}") for number in range(FEW + 1)]
    await write(database, INSERT, *many)
    assert at_once == ([1] if database.dialect == "sqlite" else [])
    assert len(await stored(database)) == len(many) + 1


async def test_what_only_reads_writes_nothing(database: Database) -> None:
    async with database.read(caller("ten1")) as connection:
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await INSERT(connection, [row("a")])
