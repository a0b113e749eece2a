"""What replicas hold: the same as the rows at every revision, and never older than a token."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import product as pairs

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Fact, Operation, ScopeMode
from pyairtable_mesh.permission.engines import MOST_STILL_SECONDS, MOST_UNSEEN_SECONDS, Engines
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.platform import Loader, State
from pyairtable_mesh.permission.report import Report
from pyairtable_mesh.permission.store import View
from pyairtable_mesh.permission.tables import CHANGELOG
from pyairtable_mesh.permission.usecases.authority import HiddenError
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import NEWEST, Consistency
from pyairtable_mesh.runtime import authorization, telemetry
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import MeshError, ResourceExhausted, Unavailable
from tests.contract.runtime.permission_server import until
from tests.contract.stores.permission.conftest import TENANT_SERVICE, Clock, Permissions, caller, link, member
from tests.contract.stores.permission.restoring import overtaken, restore
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, WORKSPACE, members, ref

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
    assert engines.tally.forgotten == {"room": 1}
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


async def test_what_a_restored_database_does_not_know_is_given_up(permissions: Permissions) -> None:
    engines = permissions.engines
    restored = (await engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    assert await permissions.may(BOB, "read", TABLE)
    await restore(permissions, restored)
    async with permissions.database.read(caller(ALICE)) as connection:
        with pytest.raises(changelog.ExpiredError) as error:
            await changelog.read(connection, TENANT_ID, restored + 1, 100)
    assert error.value.oldest == restored
    assert (await engines.newest(TENANT_ID)).revision == restored
    assert not await permissions.may(BOB, "read", TABLE)


async def test_following_notices_a_restored_database(permissions: Permissions) -> None:
    restored = (await permissions.engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    await restore(permissions, restored)
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
    assert (other.engines.tally.failures, other.engines.tally.forgotten) == (1, {"fault": 1})
    assert revision(TENANT_ID) == -1
    assert await other.may(BOB, "read", TABLE)


def _told(registry: CollectorRegistry) -> dict[str, float]:
    """The series of the platform's engines, without their prefix; sums over other labels."""
    found = dict[str, float]()
    for each in (sample for family in registry.collect() for sample in family.samples):
        if each.labels.get("space") == "platform":
            name = each.name.removeprefix("pyairtable_engine_")
            found[name] = found.get(name, 0) + each.value
    return found


async def test_metrics_say_what_is_held_and_how_far_it_is_behind(
    permissions: Permissions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    engines = Engines(database, Loader(database), clock=lambda: now)
    observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=0)
    Report({"platform": engines}).observe(observer.meter)
    assert (_told(observer.registry)["held"], _told(observer.registry)["silence_seconds"]) == (0, 0)
    await engines.at_least(TENANT_ID)
    found = _told(observer.registry)
    assert (found["held"], found["loads_total"], found["lag_revisions"], found["forgotten_total"]) == (1, 1, 0, 0)
    assert 0 < found["facts"] < found["facts_limit"]
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    now += 3
    with monkeypatch.context() as patch:
        patch.setattr(changelog, "read", _fails)
        following = asyncio.create_task(engines.follow())
        await until("following to fail", lambda: engines.tally.failures)
        following.cancel()
    found = _told(observer.registry)
    assert (found["lag_revisions"], found["silence_seconds"]) == (1, 3)
    assert found["failures_total"] == engines.tally.failures
    observer.close()


async def _fails(*_: object) -> changelog.Tail:
    raise Unavailable("the changelog cannot be read", reason="DATABASE_UNAVAILABLE")


@pytest.mark.usefixtures("quick")
async def test_a_process_that_follows_no_longer_is_not_ready(
    permissions: Permissions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    engines = Engines(database, Loader(database), clock=lambda: now)
    await engines.at_least(TENANT_ID)
    following = asyncio.create_task(engines.follow())
    with monkeypatch.context() as patch:
        patch.setattr(database, "read", _away)
        await until("a look to fail", lambda: engines.tally.failures)
        now += MOST_STILL_SECONDS
        await engines.check()
        now += 1
        with pytest.raises(Unavailable):
            await engines.check()
    await until("following to go on", lambda: engines.unseen == 0)
    await engines.check()
    following.cancel()


async def test_a_tenant_that_is_larger_than_what_may_be_held_is_refused_in_words(permissions: Permissions) -> None:
    engines = Engines(permissions.database, Loader(permissions.database, most_facts=5), most_facts=5)
    with pytest.raises(ResourceExhausted) as refused:
        await engines.at_least(TENANT_ID)
    assert (refused.value.reason, refused.value.metadata) == ("STATE_TOO_LARGE", {"limit": "5"})
    assert "PYAIRTABLE_ENGINE_FACTS" in refused.value.message
    assert engines.count == 0


@pytest.mark.parametrize("way", ["following", "newest", "token", "own change"])
async def test_another_history_with_the_same_numbers_is_noticed(
    permissions: Permissions, database: Database, way: str
) -> None:
    engines = permissions.engines
    restored = (await engines.at_least(TENANT_ID)).revision
    await permissions.grant(ALICE, "viewer", BASE, BOB)
    assert await permissions.may(BOB, "read", TABLE)
    held = engines.nearest(TENANT_ID)
    assert held is not None
    other = Permissions(database, permissions.clock)
    await overtaken(permissions, other, restored, held.revision + (way == "token"))
    if way == "token":
        await engines.at_least(TENANT_ID, held.revision + 1)
    elif way == "newest":
        await engines.newest(TENANT_ID)
    else:
        if way == "own change":
            await permissions.grant(ALICE, "viewer", ref("workspace", 2), CAROL)
            assert held.revision == restored + 2
        following = asyncio.create_task(engines.follow())
        await until("the engine to be given up", lambda: engines.tally.forgotten["history"])
        following.cancel()
    assert not await permissions.may(BOB, "read", TABLE)
    assert (await engines.newest(TENANT_ID)).revision == (await other.engines.newest(TENANT_ID)).revision


@pytest.mark.usefixtures("quick")
async def test_a_history_that_goes_on_is_not_taken_for_another(permissions: Permissions, database: Database) -> None:
    """Also behind changes that change nothing, and when what made a state is pruned."""
    engines, other = permissions.engines, Permissions(database, permissions.clock)
    await engines.at_least(TENANT_ID)
    await other.engines.at_least(TENANT_ID)
    following = asyncio.create_task(engines.follow())
    for number in range(4):
        by = (permissions, other)[number % 2]
        await by.grant(ALICE, "viewer", ref("workspace", f"w{number}"), BOB)
        await by.write(ALICE, (Operation.DELETE, member(ref("group"), ref("user", f"x{number}"))))
        permissions.clock.forward(timedelta(hours=1))
        async with database.transaction(background()) as transaction:
            await changelog.prune(transaction.connection, permissions.clock() - timedelta(minutes=1), 100)
        newest = await other.engines.newest(TENANT_ID)
        await until("the change", lambda at=newest.revision: engines.nearest(TENANT_ID).revision == at)  # type: ignore[union-attr]
    following.cancel()
    assert engines.tally.forgotten == {}


@pytest.mark.parametrize("is_fed", [False, True])
async def test_a_change_behind_another_process_s_has_the_changelog_looked_at(
    permissions: Permissions, database: Database, monkeypatch: pytest.MonkeyPatch, *, is_fed: bool
) -> None:
    """Nobody tells of the other one: two processes on one SQLite file, or a notification that was lost."""
    monkeypatch.setattr(Engines, "prepare", lambda *_: None)  # an engine that is loaded meanwhile may see it by itself
    own, other = Permissions(database, permissions.clock), Permissions(database, permissions.clock)
    upcoming = database.changed_elsewhere.upcoming()
    with own.engines.following(TENANT_ID) as feed:
        newest = (await (permissions if is_fed else own).engines.newest(TENANT_ID)).revision
        if is_fed:
            feed.take(newest, changelog.Tail(newest, (), complete=True), feed.clock())
        await own.grant(ALICE, "viewer", ref("workspace", "w1"), BOB)
        assert not upcoming.is_set()
        await other.grant(ALICE, "viewer", ref("workspace", "w2"), BOB)
        assert not upcoming.is_set()
        await own.grant(ALICE, "viewer", ref("workspace", "w3"), BOB)
        assert upcoming.is_set()


async def test_a_change_is_decided_by_no_engine_of_a_history_that_was_given_up(permissions: Permissions) -> None:
    other = Permissions(permissions.database, permissions.clock)
    before = (await permissions.engines.newest(TENANT_ID)).revision
    await permissions.grant(ALICE, "owner", WORKSPACE, BOB)
    known = permissions.engines.nearest(TENANT_ID)
    assert known is not None
    await overtaken(permissions, other, before, known.revision)
    assert permissions.engines.nearest(TENANT_ID) is known, "it was looked at the database"
    assert known.engine.check((WORKSPACE, "manage_access", BOB), authorization.Circumstances(0.0)).allowed
    with pytest.raises(HiddenError):
        await permissions.grant(BOB, "viewer", WORKSPACE, CAROL)


async def test_what_is_committed_while_an_engine_is_loaded_is_in_it(permissions: Permissions) -> None:
    loaded, go_on = asyncio.Event(), asyncio.Event()

    class SlowLoader(Loader):
        async def load(self, tenant_id: str, wanted: Callable[[Fact], bool] | None = None) -> State:
            state = await super().load(tenant_id, wanted)
            loaded.set()
            await go_on.wait()
            return state

    writer = Permissions(permissions.database, permissions.clock)
    writer.engines._loader = SlowLoader(permissions.database)
    await writer.grant(ALICE, "viewer", WORKSPACE, BOB)  # decided on the rows, and the engine is begun
    await asyncio.wait_for(loaded.wait(), 5)
    await writer.grant(ALICE, "viewer", WORKSPACE, CAROL)
    go_on.set()
    state = await writer.engines.at_least(TENANT_ID)
    assert state.engine.check((WORKSPACE, "read", CAROL), authorization.Circumstances(0.0)).allowed
    assert writer.engines.nearest(TENANT_ID) is state
