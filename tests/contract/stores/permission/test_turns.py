"""Long work leaves the event loop to others in between, and ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import pytest

from pyairtable.permission.v1.permission_pb2 import WriteRelationshipsResponse
from pyairtable_mesh.permission.domain import Operation, SpaceRelationship
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.space_messages import from_schema, from_space
from pyairtable_mesh.permission.spaces import SpaceView
from pyairtable_mesh.permission.usecases import turns
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.schemas import Assertion, Schemas, Source
from pyairtable_mesh.permission.usecases.space_questions import SpaceCircumstances
from pyairtable_mesh.permission.usecases.spaces import SpaceUpdate
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.errors import ResourceExhausted
from tests.contract.stores.permission.conftest import Permissions, caller, in_spaces
from tests.unit.permission.world import ALICE, BASE

MODEL = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define viewer: [user]\n"


class Others:
    """Others at the event loop, who count their turns; reading the clock begins the count anew."""

    def __init__(self, permissions: Permissions) -> None:
        self.turns = 0
        self._permissions = permissions

    def clock(self) -> datetime:
        self.turns = 0
        return self._permissions.clock()

    async def run(self) -> None:
        while True:
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
    authority = Authority(NaiveEvaluator(), permissions.engines)
    schemas = Schemas(permissions.database, authority, others.clock, permissions.log)
    asserted = [Assertion(Question("doc:a", "viewer"), "denied")] * 20
    outcomes = await schemas.test(caller(ALICE), Source(text=MODEL), [], asserted, "")
    assert all(each.passed for each in outcomes)
    assert others.turns == len(asserted)


async def test_the_relationships_of_a_schema_test_are_applied_in_turns(
    permissions: Permissions, others: Others
) -> None:
    authority = Authority(NaiveEvaluator(), permissions.engines)
    schemas = Schemas(permissions.database, authority, permissions.clock, permissions.log)
    given = [SpaceRelationship(f"doc:{number}", "viewer", "user:a") for number in range(1_000)]
    await schemas.test(caller(ALICE), Source(text=MODEL), given, [], "")
    assert others.turns >= len(given) // 100


async def _space_of(permissions: Permissions, *stored: SpaceRelationship) -> str:
    spaces, _ = in_spaces(permissions)
    made = await spaces.create(caller(ALICE), "Documents", from_space)
    space = made.name.removeprefix("modelSpaces/")
    await spaces.write_schema(caller(ALICE), space, MODEL, "", lambda version, _: from_schema(version))
    updates = [SpaceUpdate(Operation.CREATE, each) for each in stored]
    await spaces.write(caller(ALICE), space, updates, [], lambda _: WriteRelationshipsResponse())
    return space


async def test_a_schema_is_tried_with_no_larger_space_than_fits_beside_the_engines(permissions: Permissions) -> None:
    stored = [SpaceRelationship(f"doc:{number}", "viewer", "user:a") for number in range(3)]
    space = await _space_of(permissions, *stored)
    asserted = [Assertion(Question("doc:1", "viewer", "user:a"), "allowed")]

    async def tried(model: str, most_facts: int) -> bool:
        authority = Authority(NaiveEvaluator(), permissions.engines)
        schemas = Schemas(permissions.database, authority, permissions.clock, permissions.log, most_facts)
        (outcome,) = await schemas.test(caller(ALICE), Source(text=model), [], asserted, space)
        return outcome.passed

    assert await tried(MODEL, 70)
    with pytest.raises(ResourceExhausted, match="leave the space out") as caught:
        await tried(MODEL, 60)
    assert (caught.value.reason, caught.value.metadata) == ("EVALUATION_LIMIT", {"limit": "6"})
    # What the schema does not admit takes no room.
    assert not await tried(MODEL.replace("[user]", "[doc]"), 60)


async def test_spaces_are_tried_one_after_the_other(permissions: Permissions, monkeypatch: pytest.MonkeyPatch) -> None:
    space = await _space_of(permissions, SpaceRelationship("doc:a", "viewer", "user:a"))
    loading, everything = list[int](), SpaceView.everything

    async def counted(view: SpaceView) -> AsyncIterator[Sequence[SpaceRelationship]]:
        loading.append(loading[-1] + 1 if loading else 1)
        async for part in everything(view):
            yield part
        await asyncio.sleep(0)
        loading.append(loading[-1] - 1)

    monkeypatch.setattr(SpaceView, "everything", counted)
    schemas = Schemas(
        permissions.database, Authority(NaiveEvaluator(), permissions.engines), permissions.clock, permissions.log
    )
    await asyncio.gather(*(schemas.test(caller(ALICE), Source(text=MODEL), [], [], space) for _ in range(3)))
    assert loading == [1, 0] * 3


async def test_a_batch_is_answered_in_turns_from_one_state(permissions: Permissions, others: Others) -> None:
    await permissions.may(ALICE, "read", BASE)
    others.turns = 0
    results, _ = await permissions.checks.batch(caller(ALICE), [Question(BASE, "read")] * 20, Circumstances())
    assert others.turns >= len(results) - 1
    assert all(isinstance(each, Decision) and each.allowed for each in results)


async def test_a_batch_about_a_space_is_answered_in_turns(permissions: Permissions, others: Others) -> None:
    _, questions = in_spaces(permissions)
    alice, given = caller(ALICE), SpaceCircumstances()
    space = await _space_of(permissions)
    await questions.check(alice, space, Question("doc:a", "viewer"), given)
    others.turns = 0
    results, _ = await questions.batch(alice, space, [Question("doc:a", "viewer")] * 20, given)
    assert others.turns >= len(results) - 1
    assert all(isinstance(each, Decision) and not each.allowed for each in results)


async def test_a_request_that_has_had_all_its_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)
    with pytest.raises(ResourceExhausted):
        await turns.Turn().pass_on()
