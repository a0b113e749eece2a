"""The embedded replica: when it answers, when it asks, and that what goes wrong never reads as "allowed"."""

import asyncio

import pytest

from pyairtable.common.v1 import common_pb2
from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.runtime import access, auditing, errors, moments, telemetry
from pyairtable_mesh.runtime.authorizer import Undecided
from pyairtable_mesh.runtime.builder import runtime_access
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.replica.asked import types_asked
from pyairtable_mesh.runtime.replica.authorizer import HERE
from pyairtable_mesh.runtime.replica.copy import Copy, DamagedError, TooLargeError
from pyairtable_mesh.runtime.replica.follower import Wanted
from pyairtable_mesh.runtime.replica.replicas import Bounds, Replicas
from pyairtable_mesh.runtime.replica.report import Report
from pyairtable_mesh.user.access import ACCESS
from tests.contract.runtime.permission_server import (
    ALICE,
    BOB,
    TENANT,
    TENANT_ID,
    PermissionServer,
    bound,
    stub_of,
    token,
    until,
)
from tests.contract.runtime.replicating import BASE, OTHER_TENANT_ID, running


async def test_the_server_answers_until_a_replica_is_there_and_the_replica_from_then_on() -> None:
    async with running() as it:
        assert await it.may()
        assert it.authorizer.answers == {"loading": 1}
        await it.holds(1)
        assert await it.may()
        assert it.authorizer.answers == {"loading": 1, HERE: 1}
        assert len(it.server.checks) == len(it.server.streams) == 1
        assert it.server.streams[0].resource_types == ["tenant"]


async def test_changes_reach_the_replica_in_their_order() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.write(bound("1", "viewer", ALICE, removed=True))
        it.server.write(bound("2", "owner", ALICE))
        await it.holds(it.server.write(bound("3", "viewer", BOB)))
        answers = it.since()
        assert await it.may((TENANT, "manage_access"))
        await it.holds(it.server.write(bound("2", "owner", ALICE, removed=True)))
        assert not await it.may()
        assert answers() == {HERE: 1, "denied": 1}


async def test_a_denial_is_the_server_s_by_a_state_as_fresh_as_the_replica_s() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.silent = True
        it.server.write(bound("2", "owner", ALICE))
        # The replica has not heard of the grant; who was granted something is let in all the same.
        assert await it.may((TENANT, "manage_access"))
        assert it.server.checks[-1].consistency.at_least_as_fresh == token(1)
        assert not await it.may((BASE, "delete"), (TENANT, "read"))


async def test_what_hangs_on_a_condition_is_not_allowed_and_the_server_says_on_what() -> None:
    async with running() as it:
        await it.holds(1)
        binding = bound("2", "owner", ALICE)
        binding.role_binding.condition.name = "in_network"
        await it.holds(it.server.write(binding))
        answers = it.since()
        caller = RequestContext("/t.v1.Test/Do", actor=Actor("user", ALICE), tenant_id=TENANT_ID)
        (answer,) = await it.authorizer.check(caller, [(TENANT, "manage_access")])
        assert (answer, bool(answer)) == (Undecided(frozenset({"address", "network"})), False)
        assert await it.may()
        assert answers() == {"denied": 1, HERE: 1}


async def test_allowed_answers_are_audited_with_the_grant() -> None:
    async with running() as it:
        await it.holds(1)
        assert await it.may()
        assert it.log.taken == [auditing.Decision(ALICE, TENANT, "tenant.read", "allowed", "roleBindings/1", "1")]


async def test_a_token_is_waited_for_or_taken_to_the_server() -> None:
    async with running() as it:
        await it.holds(1)
        answers = it.since()
        revoked = it.server.write(bound("1", "viewer", ALICE, removed=True))
        assert not await it.may(seen=token(revoked))
        assert answers() == {"denied": 1}
        it.server.write(bound("1", "viewer", ALICE))
        assert await it.may(seen=token(it.server.engine.revision))
        assert answers() == {"denied": 1, HERE: 1}


async def test_a_token_that_the_stream_does_not_bring_is_the_server_s_business() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.silent = True
        revoked = it.server.write(bound("1", "viewer", ALICE, removed=True))
        answers = it.since()
        assert not await it.may(seen=token(revoked))
        assert answers() == {"token_ahead": 1}
        assert it.server.checks[-1].consistency.at_least_as_fresh == token(revoked)


@pytest.mark.parametrize("forged", ["?", "AAAA", "a" * 5000, "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
async def test_what_is_no_token_is_left_to_the_server(forged: str) -> None:
    async with running() as it:
        await it.holds(1)
        answers = it.since()
        await it.may(seen=forged)
        assert answers() == {"token_unknown": 1}
        assert it.server.checks[-1].consistency.at_least_as_fresh == forged


async def test_types_that_are_not_followed_are_the_server_s() -> None:
    async with running() as it:
        await it.holds(it.server.write(bound("2", "viewer", ALICE, BASE)))
        answers = it.since()
        assert await it.may((BASE, "read"))
        assert answers() == {"type_not_held": 1}


async def test_a_silent_replica_answers_for_its_budget_then_the_server_then_nobody() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.away = it.server.silent = True
        it.server.interrupt()
        answers = it.since()
        assert await it.may()
        it.clock.ahead += 6
        with pytest.raises(errors.Unavailable):
            await it.may()
        assert answers() == {HERE: 1, "stale": 1}
        it.server.away = it.server.silent = False
        assert await it.may()
        await it.holds(1)
        assert await it.may()
        assert it.replicas.loads == 1


async def test_a_denial_that_nobody_confirms_is_no_answer() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.away = True
        with pytest.raises(errors.Unavailable):
            await it.may((TENANT, "manage_access"))


async def test_what_nobody_asks_about_ends_its_stream() -> None:
    async with running() as it:
        await it.holds(1)
        it.clock.ahead += 61
        it.replicas.sweep()
        assert not it.replicas.followers()
        await until("the stream to end", lambda: not it.server.open_streams)
        assert await it.may()


async def test_the_least_recently_used_makes_room_unless_it_is_in_use() -> None:
    async with running(bounds=Bounds(1, 100_000, 60.0)) as it:
        await it.holds(1)
        await it.may((f"tenant:{OTHER_TENANT_ID}", "read"), tenant_id=OTHER_TENANT_ID)
        assert it.authorizer.answers["no_room"] == 1
        it.clock.ahead += 11
        await it.may((f"tenant:{OTHER_TENANT_ID}", "read"), tenant_id=OTHER_TENANT_ID)
        assert [each.copy.tenant_id for each in it.replicas.followers()] == [OTHER_TENANT_ID]


async def test_a_tenant_that_is_too_large_stays_with_the_server() -> None:
    async with running(bounds=Bounds(2, 1, 60.0)) as it:
        await it.may()
        await until("the refusal", lambda: it.follower.refused)
        assert await it.may()
        assert it.authorizer.answers == {"loading": 1, "too_large": 1}
        await until("the stream to end", lambda: not it.server.open_streams)


async def test_a_snapshot_that_is_too_large_is_not_even_read() -> None:
    chunk = pb.ReplicaSnapshotChunk(data=b"PAMZ", total_bytes=11)
    with pytest.raises(TooLargeError):
        await Copy(TENANT_ID, lambda size: size <= 10).take(pb.StreamReplicaResponse(snapshot=chunk), since=0.0)


async def test_a_tenant_that_grows_too_large_is_given_up() -> None:
    async with running(bounds=Bounds(2, 60, 60.0)) as it:
        await it.holds(1)
        await it.holds(it.server.write(*(bound(f"1{n}", "viewer", f"user:usr{n:026}") for n in range(40))))
        it.replicas.sweep()
        assert it.follower.refused
        assert await it.may()


async def test_the_report_says_what_is_held_and_who_answered() -> None:
    async with running() as it:
        report = Report(it.replicas, it.authorizer, it.clock)
        observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=0)
        report.observe(observer.meter)
        await it.holds(1)
        assert await it.may()
        found = {
            (each.name, each.labels.get("reason", "")): each.value
            for family in observer.registry.collect()
            for each in family.samples
        }
        assert found["pyairtable_authorizer_answers_total", "fresh"] == 1
        assert found["pyairtable_replica_held", ""] == found["pyairtable_replica_loads_total", ""] == 1
        assert 0 <= found["pyairtable_replica_silence_seconds", ""] < 5
        assert found["pyairtable_replica_lag_revisions", ""] == 0
        assert 0 <= found["pyairtable_replica_skew_seconds", ""] < 2
        assert report.dependency().healthy
        it.server.silent = True
        it.clock.ahead += 6
        await until("silence to be told", lambda: not report.dependency().healthy)
        assert not report.dependency().required
        observer.close()


def test_a_service_follows_the_types_that_its_access_table_asks_about() -> None:
    services = [*user_pb2.DESCRIPTOR.services_by_name.values(), *common_pb2.DESCRIPTOR.services_by_name.values()]
    tables = {"pyairtable.user.v1.UserService": ACCESS, **runtime_access(())}
    assert types_asked(services, tables) == {"tenant"}
    named = {
        "pyairtable.user.v1.UserService": {
            "GetGroup": access.on("name", "read"),
            "UpdateUser": access.on("user.name", "update"),
        }
    }
    assert types_asked(services, named) == {"group", "user"}
    anything = {"pyairtable.user.v1.UserService": {"AddGroupMember": access.on("member", "read")}}
    assert types_asked(services, anything) == frozenset()


@pytest.mark.parametrize("ahead", [-3, 3])
async def test_a_replica_whose_clock_is_not_the_server_s_leaves_it_to_the_server(ahead: int) -> None:
    def turned(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
        message.time.seconds -= ahead
        return message

    async with running() as it:
        await it.holds(1)
        assert await it.may()
        it.server.spoil = turned
        await until("the skew to be seen", lambda: it.follower.is_skewed)
        answers = it.since()
        assert await it.may()
        assert answers() == {"skewed": 1}
        assert not Report(it.replicas, it.authorizer, it.clock).dependency().healthy
        it.server.spoil = None
        await until("the clocks to agree", lambda: not it.follower.is_skewed)
        assert await it.may()
        assert answers() == {"skewed": 1, HERE: 1}


async def test_a_snapshot_that_was_on_its_way_for_long_says_nothing_about_the_clock() -> None:
    chunk = pb.ReplicaSnapshotChunk(data=b"a", total_bytes=3)
    time = moments.to_timestamp(moments.utc_now())
    time.seconds -= 20
    copy = Copy(TENANT_ID, lambda _: True)
    await copy.take(pb.StreamReplicaResponse(snapshot=chunk, time=time), since=0.0)
    assert copy.skew == 0
    time.seconds += 40
    await copy.take(pb.StreamReplicaResponse(snapshot=chunk, time=time), since=0.0)
    assert -21 < copy.skew < -19


async def test_what_is_on_its_way_takes_room_as_what_is_held_does() -> None:
    bounds = Bounds(tenants=3, facts=1_000, idle_seconds=60.0)
    async with stub_of(PermissionServer(silent=True)) as stub:
        replicas = Replicas(stub, Wanted(frozenset(), 5.0), bounds)
        first, second = (found.copy for each in (TENANT_ID, OTHER_TENANT_ID) if (found := replicas.of(each)))

        def part(facts: int) -> pb.StreamReplicaResponse:
            size = (1 << 16) + 100 * facts
            return pb.StreamReplicaResponse(snapshot=pb.ReplicaSnapshotChunk(data=b"a", total_bytes=size))

        # Nothing of this lets the streams of the two begin.
        await first.take(part(600), since=0.0)
        with pytest.raises(TooLargeError):
            await second.take(part(401), since=0.0)
        await second.take(part(400), since=0.0)
        with pytest.raises(DamagedError):
            await second.take(part(800), since=0.0)
        first.resume()
        second.resume()
        await second.take(part(1_000), since=0.0)
        ending = asyncio.create_task(replicas.run())
        await asyncio.sleep(0)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
