"""``kill -9`` in the midst of following another service's outbox: the log has every event, once, in one whole chain."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime import auditing, migrations
from pyairtable_mesh.runtime import database as databases
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.filters import All
from tests.databases import caller

TENANT = "ten" + "1" * 26
EVENTS = 1_200
ACTS, DECISIONS = 5, 15
"""The acts of which each is an event, and the decisions behind them that one event carries."""
KILLS = 2
LIMIT_SECONDS = 120.0
FOLLOWER = Path(__file__).with_name("follower.py")


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.audit.migrations"


async def test_killed_at_any_moment_it_loses_and_repeats_nothing(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    source_url = f"sqlite:///{tmp_path}/source.db"
    await _fill(source_url)
    log = AuditLog(database, Store(), None)  # type: ignore[arg-type]
    async with asyncio.timeout(LIMIT_SECONDS):
        for kill in range(KILLS + 1):
            process = await asyncio.create_subprocess_exec(sys.executable, FOLLOWER, source_url, database_url)
            try:
                await _until(log, EVENTS if kill == KILLS else EVENTS * (kill + 1) // (KILLS + 2))
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()
    report = await log.verify(caller(TENANT), 0, 0, [])
    assert (report.broken, report.verified) == (None, EVENTS)
    links = await log.list(caller(TENANT), All(), after=None, descending=False, limit=EVENTS)
    assert [link.entry.resource for link in links] == [f"base:{number}" for number in range(EVENTS)]


async def _fill(url: str) -> None:
    async with databases.opened(url, service="permission") as source:
        await migrations.upgrade(source, None)
        async with source.transaction(who := caller(TENANT)) as tx:
            for first in range(0, EVENTS, ACTS + DECISIONS):
                for number in range(first, first + ACTS):
                    tx.audit(f"base:{number}")
                denied = [
                    auditing.Decision(who.actor.subject, f"base:{number}", "base.read", "denied")
                    for number in range(first + ACTS, first + ACTS + DECISIONS)
                ]
                tx.publish(auditing.DECISIONS_TYPE, "base", auditing.decisions_message(denied, who, tx.now, {}))


async def _until(log: AuditLog, count: int) -> None:
    async for _, last in log.tail(caller(TENANT), All(), 0, heartbeat=0.01):
        if last >= count:
            return
