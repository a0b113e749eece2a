import asyncio
import gc
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime import moments
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import DeadlineExceeded, MeshError, Unavailable
from pyairtable_mesh.runtime.tables import IDEMPOTENCY, RUNTIME_VALUES
from tests.databases import PostgresServer, caller

VALUE = select(RUNTIME_VALUES.c.value).where(RUNTIME_VALUES.c.name == "x")


async def _put(database: Database, value: bytes, who: RequestContext) -> None:
    async with database.transaction(who) as tx:
        await tx.connection.execute(insert(RUNTIME_VALUES), {"name": "x", "value": value})


async def _get(database: Database) -> bytes | None:
    async with database.read(caller("ten1")) as connection:
        return (await connection.execute(VALUE)).scalar_one_or_none()


async def test_a_change_is_there_when_its_block_ends(database: Database) -> None:
    await _put(database, b"1", caller("ten1"))
    assert await _get(database) == b"1"


async def test_a_change_that_raises_leaves_nothing(database: Database) -> None:
    async def change() -> None:
        async with database.transaction(caller("ten1")) as tx:
            await tx.connection.execute(insert(RUNTIME_VALUES), {"name": "x", "value": b"1"})
            raise LookupError

    with pytest.raises(LookupError):
        await change()
    assert await _get(database) is None


async def test_a_cancelled_change_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    inside = asyncio.Event()

    async def change() -> None:
        async with database.transaction(caller("ten1")) as tx:
            await tx.connection.execute(insert(RUNTIME_VALUES), {"name": "x", "value": b"1"})
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(change())
    await asyncio.wait_for(inside.wait(), 5)
    task.cancel()
    await asyncio.wait([task])
    await _put(database, b"2", caller("ten1"))
    assert await _get(database) == b"2"


async def test_cancelled_at_any_moment_a_change_leaves_neither_lock_nor_connection_behind(database: Database) -> None:
    await _put(database, b"0", caller("ten1"))
    finished = 0

    async def increment() -> None:
        nonlocal finished
        async with database.transaction(caller("ten1")) as tx:
            value = int((await tx.connection.execute(VALUE)).scalar_one())
            await tx.connection.execute(update(RUNTIME_VALUES).values(value=b"%d" % (value + 1)))
        finished += 1

    gc.disable()  # what only the collector would free is not free
    try:
        for step in range(60):
            tasks = [asyncio.create_task(increment()) for _ in range(2)]
            await asyncio.wait(tasks, timeout=step / 20_000)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.wait_for(increment(), 3)
    finally:
        gc.enable()
    value = int(await _get(database) or b"0")
    assert value >= finished >= 60


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with database.read(caller("ten1")) as connection:
            await connection.execute(insert(RUNTIME_VALUES), {"name": "x", "value": b"1"})


async def test_a_read_stays_at_its_moment(database: Database) -> None:
    await _put(database, b"1", caller("ten1"))
    async with database.read(caller("ten1")) as connection:
        before = (await connection.execute(VALUE)).scalar_one()
        async with database.transaction(caller("ten1")) as tx:
            await tx.connection.execute(update(RUNTIME_VALUES).values(value=b"2"))
        assert (await connection.execute(VALUE)).scalar_one() == before
    assert await _get(database) == b"2"


async def test_changes_of_one_tenant_are_serial(database: Database) -> None:
    await _put(database, b"0", caller("ten1"))

    async def increment() -> None:
        async with database.transaction(caller("ten1")) as tx:
            value = int((await tx.connection.execute(VALUE)).scalar_one())
            await asyncio.sleep(0)
            await tx.connection.execute(update(RUNTIME_VALUES).values(value=b"%d" % (value + 1)))

    await asyncio.gather(*(increment() for _ in range(25)))
    assert await _get(database) == b"25"


async def test_a_service_without_a_tenant_in_its_call_sees_no_rows_of_any(database: Database) -> None:
    await _remember(database, "ten1")
    if database.dialect == "postgresql":
        assert await _visible_rows(database, RequestContext(method="/public")) == []
    assert await _visible_rows(database, databases.background()) == ["ten1"]


async def test_row_level_security_hides_and_refuses_rows_of_other_tenants(
    database: Database,
) -> None:
    await _remember(database, "ten1")
    await _remember(database, "ten2")
    if database.dialect == "sqlite":
        return
    assert await _visible_rows(database, caller("ten1")) == ["ten1"]
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.transaction(caller("ten1")) as tx:
            await tx.connection.execute(insert(IDEMPOTENCY), _record("ten2", "other"))
    assert not await database.above_row_security()


async def _remember(database: Database, tenant_id: str) -> None:
    async with database.transaction(caller(tenant_id)) as tx:
        await tx.connection.execute(insert(IDEMPOTENCY), _record(tenant_id, "1"))


def _record(tenant_id: str, request_id: str) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "caller": "user:usr1",
        "method": "/m",
        "request_id": request_id,
        "request_digest": b"",
        "response": b"",
        "create_time": moments.utc_now(),
    }


async def _visible_rows(database: Database, who: RequestContext) -> list[str]:
    async with database.read(who) as connection:
        return list((await connection.execute(select(IDEMPOTENCY.c.tenant_id))).scalars())


async def test_sqlite_is_as_durable_as_it_can_be(tmp_path: Path) -> None:
    async with (
        databases.opened(f"sqlite:///{tmp_path}/new/folder/x.db", service="test") as database,
        database.transaction(databases.background()) as tx,
    ):
        pragmas = [
            (await tx.connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]


@pytest.mark.parametrize(
    "url", ["postgresql://app:secret@127.0.0.1:1/mesh", "sqlite:////proc/nowhere/x.db"], ids=["postgresql", "sqlite"]
)
async def test_an_unreachable_database_is_said_in_words_without_its_password(url: str) -> None:
    with pytest.raises(Unavailable) as raised:
        async with databases.opened(url, service="test"):
            pass
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
async def test_sqlite_needs_a_file(url: str) -> None:
    with pytest.raises(ValueError, match="needs a file"):
        async with databases.opened(url, service="test"):
            pass


@pytest.mark.postgresql
async def test_a_superuser_is_warned_about_row_level_security(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with databases.opened(postgres_server.url("postgres", "postgres"), service="test"):
            pass
    assert "row-level security does not bind" in caplog.text


@pytest.mark.postgresql
async def test_tenants_do_not_wait_for_each_other(postgres_server: PostgresServer) -> None:
    name = await postgres_server.create(None)
    async with databases.opened(postgres_server.url(name), service="test") as database:
        async with database.transaction(caller("ten1")):
            await asyncio.wait_for(_put(database, b"1", caller("ten2")), 5)
        assert await _get(database) == b"1"
    await postgres_server.drop(name)


@pytest.mark.postgresql
async def test_a_lost_connection_fails_one_call_and_is_replaced(postgres_server: PostgresServer) -> None:
    name = await postgres_server.create(None)
    async with databases.opened(postgres_server.url(name), service="test") as database:
        await postgres_server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        with pytest.raises(Unavailable):
            await database.ping()
        await database.ping()
    await postgres_server.drop(name)


@pytest.mark.postgresql
async def test_a_burst_of_one_tenant_leaves_connections_for_others(postgres_server: PostgresServer) -> None:
    name = await postgres_server.create(None)
    async with databases.opened(postgres_server.url(name), service="test", pool_size=2) as database:
        async with database.transaction(caller("ten1")), asyncio.timeout(5):
            burst = [asyncio.create_task(_get_in_transaction(database)) for _ in range(5)]
            await _put(database, b"1", caller("ten2"))
        await asyncio.gather(*burst)
    await postgres_server.drop(name)


async def _get_in_transaction(database: Database) -> None:
    async with database.transaction(caller("ten1")) as tx:
        await tx.connection.execute(VALUE)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("statement", "error", "reason"),
    [
        ("SELECT pg_sleep(5)", DeadlineExceeded, "DATABASE_TIMEOUT"),
        ("LOCK TABLE runtime_values IN EXCLUSIVE MODE NOWAIT", Unavailable, "DATABASE_BUSY"),
    ],
    ids=["too slow", "locked"],
)
async def test_what_passes_with_time_is_an_error_of_the_tree(
    postgres_server: PostgresServer, statement: str, error: type[MeshError], reason: str
) -> None:
    name = await postgres_server.create(None)
    limit = timedelta(milliseconds=200)
    async with (
        databases.opened(postgres_server.url(name), service="test", statement_timeout=limit) as database,
        database.transaction(caller("ten1")) as holding,
    ):
        await holding.connection.execute(insert(RUNTIME_VALUES), {"name": "x", "value": b"1"})
        with pytest.raises(error) as raised:
            await _execute(database, statement)
    assert raised.value.reason == reason
    await postgres_server.drop(name)


async def _execute(database: Database, statement: str) -> None:
    async with database.transaction(caller("ten2")) as tx:
        await tx.connection.execute(text(statement))


async def test_errors_of_the_block_are_its_own(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with database.read(caller("ten1")):
            raise TimeoutError


async def test_what_people_wrote_is_not_in_the_texts_of_errors(database: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with database.transaction(caller("ten1")) as tx:
            await tx.connection.execute(text("INSERT INTO nowhere VALUES (:email)"), {"email": "ada@example.com"})
    assert "ada@example.com" not in str(raised.value)
