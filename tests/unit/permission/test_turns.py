"""Long work leaves the event loop to others in between, and ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.usecases import turns
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.checks import Question
from pyairtable_mesh.permission.usecases.schemas import Assertion, Schemas, Source
from pyairtable_mesh.runtime.errors import ResourceExhausted
from tests.unit.permission.conftest import Permissions, caller
from tests.unit.permission.world import ALICE

MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n"


class Others:
    """Others at the event loop: counts the turns that they get from the first reading of the clock on."""

    def __init__(self, permissions: Permissions) -> None:
        self.turns: int | None = None
        self._permissions = permissions

    def clock(self) -> datetime:
        if self.turns is None:
            self.turns = 0
        return self._permissions.clock()

    async def run(self) -> None:
        while True:
            if self.turns is not None:
                self.turns += 1
            await asyncio.sleep(0)


@pytest.fixture
async def others(permissions: Permissions, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Others]:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    found = Others(permissions)
    running = asyncio.create_task(found.run())
    yield found
    running.cancel()


async def test_the_assertions_of_a_schema_are_answered_in_turns(permissions: Permissions, others: Others) -> None:
    schemas = Schemas(permissions.database, Authority(NaiveEvaluator()), others.clock)
    asserted = [Assertion(Question("doc:a", "viewer"), "denied")] * 20
    outcomes = await schemas.test(caller(ALICE), Source(text=MODEL), [], asserted, "")
    assert all(each.passed for each in outcomes)
    assert others.turns == len(asserted)


async def test_a_request_that_has_had_all_its_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)
    with pytest.raises(ResourceExhausted):
        await turns.Turn().pass_on()
