"""What replicas hold: the same as the rows at every revision, and never older than a token."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product as pairs

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Operation, ScopeMode
from pyairtable_mesh.permission.engines import MOST_UNSEEN_SECONDS, Engines
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.platform import Loader
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.tables import CHANGELOG, REVISION, ROLE_BINDING
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import NEWEST, Consistency
from pyairtable_mesh.runtime import authorization
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import MeshError, Unavailable
from tests.unit.permission.conftest import TENANT_SERVICE, Clock, Permissions, caller, link, member
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, WORKSPACE, members, ref
from tests.unit.runtime.permission_server import until

RECORD = ref("record")
RESOURCES = [RECORD, ref("field"), TABLE, BASE, WORKSPACE, TENANT]
SUBJECTS = [ALICE, BOB, CAROL, members(1), members(2)]


Answers = dict[tuple[str, str], frozenset[str]]


async def _naive(permissions: Permissions) -> Answers:
    async with permissions.database.read(caller(ALICE)) as connection:
        view = View(connection, TENANT_ID, permissions.clock())
        answers = await NaiveEvaluator().answers(view, TENANT_ID, RESOURCES, SUBJECTS)
    return {(subject, each): answers.effective(subject, each) for subject, each in pairs(SUBJECTS, RESOURCES)}


def _held(engine: authorization.ScopedEngine, clock: Clock) -> Answers:
    now = authorization.Circumstances(clock().timestamp())
    return {
        (subject, each): frozenset(engine.effective(each, subject, now)[0])
        for subject, each in pairs(SUBJECTS, RESOURCES)
    }


async def _change(permissions: Permissions, chance: random.Random) -> None:
    groups, people = [ref("group", 1), ref("group", 2)], [BOB, CAROL, members(1)]
    condition = chance.choice(["", "", "in_network"])
    match chance.randrange(5):
        case 0:
            resource = chance.choice(RESOURCES[:-1])
            role, subject = chance.choice(["viewer", "editor", "owner"]), chance.choice(SUBJECTS[1:])
            await permissions.grant(ALICE, role, resource, subject, condition=condition)
        case 1:
            async with permissions.database.read(caller(ALICE)) as connection:
                bound = await View(connection, TENANT_ID, permissions.clock()).bindings(100)
            await permissions.revoke(ALICE, chance.choice(bound).name)
        case 2:
            operation = chance.choice([Operation.TOUCH, Operation.DELETE])
            joining = member(chance.choice(groups), chance.choice(people), condition=condition)
            await permissions.write(ALICE, (operation, joining))
        case 3:
            await permissions.set_mode(ALICE, chance.choice(RESOURCES[:-1]), chance.choice(list(ScopeMode)))
        case _:
            there = chance.choice([BASE, ref("base", 2)])
            other = ref("base", 2) if there == BASE else BASE
            moves = (Operation.DELETE, link(TABLE, other)), (Operation.TOUCH, link(TABLE, there))
            await permissions.write(ALICE, *moves)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
async def test_every_replica_answers_as_the_rows_do_at_every_revision(permissions: Permissions, seed: int) -> None:
    chance = random.Random(seed)
    links = [link(ref("base", 2), WORKSPACE), link(RECORD, TABLE), link(ref("field"), TABLE)]
    await permissions.write(ALICE, *((Operation.CREATE, each) for each in links))
    behind = Engines(permissions.database, Loader(permissions.database))
    expected: dict[int, Answers] = {}
    await permissions.engines.at_least(TENANT_ID)
    for step in range(40):
        try:
            await _change(permissions, chance)
        except MeshError:
            continue
        present = permissions.engines.nearest(TENANT_ID)
        assert present is not None
        expected[present.revision] = await _naive(permissions)
        assert _held(present.engine, permissions.clock) == expected[present.revision]
        if step % 7 == 0:
            other = await behind.newest(TENANT_ID)
            assert _held(other.engine, permissions.clock) == expected[other.revision]
    assert len(expected) > 15
    fresh = await Engines(permissions.database, Loader(permissions.database)).newest(TENANT_ID)
    assert _held(fresh.engine, permissions.clock) == expected[fresh.revision]
    for revision in chance.sample(sorted(expected), len(expected)):
        async with behind.exactly(TENANT_ID, revision) as state:
            assert state.revision == revision
            assert _held(state.engine, permissions.clock) == expected[revision]


async def test_a_token_is_never_answered_from_an_older_state(permissions: Permissions, database: Database) -> None:
    """The "new enemy": what is added after a revocation must not be seen by who was revoked, on no replica."""
    other = Permissions(database, permissions.clock)  # a replica that hears of nothing
    binding = (await permissions.grant(ALICE, "editor", BASE, BOB)).role_binding
    assert await other.may(BOB, "read", TABLE)
    await permissions.revoke(ALICE, binding.name)
    token = await permissions.write(ALICE, (Operation.CREATE, link(RECORD, TABLE)))
    assert await other.may(BOB, "read", TABLE), "replication is not paused"
    for consistency in (Consistency(token), Consistency(token, exact=True), NEWEST):
        replica = Permissions(database, permissions.clock)
        await replica.engines.at_least(TENANT_ID)
        for each in (replica, other):
            given = Circumstances(consistency=consistency)
            decision, seen = await each.checks.check(caller(BOB), Question(RECORD, "read"), given)
            assert (decision.allowed, seen) == (False, token)


async def test_engines_make_room_for_each_other(permissions: Permissions) -> None:
    engines = Engines(permissions.database, Loader(permissions.database), most_engines=2)
    tenants = [TENANT_ID, *("ten" + str(number) * 26 for number in (3, 4))]
    for each in tenants:
        await engines.at_least(each)
    assert [engines.nearest(each) is not None for each in tenants] == [False, True, True]
    assert (await engines.at_least(TENANT_ID)).revision == 2


async def test_a_replica_that_missed_what_is_pruned_begins_anew(permissions: Permissions) -> None:
    other = Engines(permissions.database, Loader(permissions.database))
    await other.at_least(TENANT_ID)
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    await permissions.grant(ALICE, "viewer", BASE, CAROL)
    async with permissions.database.transaction(caller(ALICE)) as transaction:
        await transaction.connection.execute(CHANGELOG.delete().where(CHANGELOG.c.revision < 4))
    state = await other.newest(TENANT_ID)
    assert _held(state.engine, permissions.clock) == await _naive(permissions)


async def _restore(permissions: Permissions, revision: int) -> None:
    """Put the database back to a revision behind which only roles were granted."""
    async with permissions.database.transaction(caller(ALICE)) as transaction:
        for table in (CHANGELOG, ROLE_BINDING):
            await transaction.connection.execute(table.delete().where(table.c.revision > revision))
        await transaction.connection.execute(REVISION.update().values(revision=revision))


async def test_what_a_restored_database_does_not_know_is_given_up(permissions: Permissions) -> None:
    engines = permissions.engines
    restored = (await engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    assert await permissions.may(BOB, "read", TABLE)
    await _restore(permissions, restored)
    async with permissions.database.read(caller(ALICE)) as connection:
        with pytest.raises(changelog.ExpiredError) as error:
            await changelog.read(connection, TENANT_ID, restored + 1, 100)
    assert error.value.oldest == restored
    assert (await engines.newest(TENANT_ID)).revision == restored
    assert not await permissions.may(BOB, "read", TABLE)


async def test_following_notices_a_restored_database(permissions: Permissions) -> None:
    restored = (await permissions.engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    await _restore(permissions, restored)
    following = asyncio.create_task(permissions.engines.follow())
    await until("the engine to be given up", lambda: permissions.engines.nearest(TENANT_ID) is None)
    following.cancel()
    assert not await permissions.may(BOB, "read", TABLE)


@asynccontextmanager
async def _away(_: RequestContext) -> AsyncIterator[AsyncConnection]:
    raise Unavailable("the database is away", reason="DATABASE_UNAVAILABLE")
    yield  # a context manager's


async def test_without_the_database_what_is_held_is_not_believed_for_long(
    permissions: Permissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    engines = Engines(permissions.database, Loader(permissions.database), clock=lambda: now)
    held = await engines.at_least(TENANT_ID)
    now += MOST_UNSEEN_SECONDS
    with monkeypatch.context() as patch:
        patch.setattr(permissions.database, "read", _away)
        assert await engines.at_least(TENANT_ID) is engines.nearest(TENANT_ID) is held
        now += 1
        assert engines.nearest(TENANT_ID) is None
        with pytest.raises(Unavailable):
            await engines.at_least(TENANT_ID)
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    assert (await engines.at_least(TENANT_ID)).revision == 3
    assert engines.nearest(TENANT_ID) is held


async def test_a_scope_that_cannot_follow_is_loaded_anew_and_stops_no_other(
    permissions: Permissions, database: Database
) -> None:
    other_id = "ten" + "3" * 26
    other = Permissions(database, permissions.clock)
    for each in (TENANT_ID, other_id):
        await other.engines.at_least(each)
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    await permissions.grant(TENANT_SERVICE, "owner", f"tenant:{other_id}", ALICE)
    async with database.transaction(caller(ALICE)) as transaction:
        later = CHANGELOG.update().where(CHANGELOG.c.tenant_id == TENANT_ID).values(kind="later")
        await transaction.connection.execute(later)
    following = asyncio.create_task(other.engines.follow())

    def revision(tenant_id: str) -> int:
        held = other.engines.nearest(tenant_id)
        return held.revision if held is not None else -1

    await until("the other tenant's change", lambda: revision(other_id) == 1)
    following.cancel()
    assert revision(TENANT_ID) == -1
    assert await other.may(BOB, "read", TABLE)
