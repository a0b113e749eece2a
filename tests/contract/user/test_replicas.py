"""Two user services beside one permission service, as real processes: their replicas are fresh, survive it, and fail
closed.
"""

import asyncio
import time
from pathlib import Path

import grpc

from pyairtable.common.v1 import common_pb2
from tests.contract.user.places import ALLOWED, BUDGET_SECONDS, DENIED, Instance, Place, placed

ROUNDS = 20
AWAY = grpc.StatusCode.UNAVAILABLE
SECONDS = 30.0


async def _until(instance: Instance, wanted: grpc.StatusCode) -> float:
    """Ask until a call ends as wanted; how long that took."""
    begun = time.monotonic()
    async with asyncio.timeout(SECONDS):
        while (found := await instance.answers()) is not wanted:
            assert found in {ALLOWED, AWAY}
    return time.monotonic() - begun


async def test_what_is_granted_and_revoked_is_seen_by_every_replica_and_never_late_with_a_token(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        for _ in range(ROUNDS):
            granted = await place.grant()
            # Whoever was granted something is let in at once, token or not: a denial is the server's own.
            assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
            token = await place.revoke(granted.role_binding.name)
            assert [await each.answers(token) for each in place.users] == [DENIED, DENIED]
        for _ in range(ROUNDS):
            granted = await place.grant()
            assert [await each.answers(granted.consistency_token) for each in place.users] == [ALLOWED, ALLOWED]
            await place.revoke(granted.role_binding.name)
            delays = await asyncio.gather(*(_until(each, DENIED) for each in place.users))
            assert max(delays) < 1.0  # bench/replica.py measures it
        rows = [await each.replica() for each in place.users]
        assert {row.state for row in rows} == {common_pb2.HEALTH_STATE_HEALTHY}
        assert not any(row.required for row in rows)


async def test_the_replicas_outlive_the_permission_service_for_their_budget_then_fail_closed_and_recover(
    tmp_path: Path,
) -> None:
    async with placed(tmp_path) as place:
        granted = await place.grant()
        for each in place.users:
            assert await each.answers(granted.consistency_token) is ALLOWED
        await asyncio.gather(*(_in_process(each) for each in place.users))
        killed = time.monotonic()
        await place.kill()
        assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
        # Under load all the while: every call is allowed in process, until none is allowed at all.
        await asyncio.gather(*(_until(each, AWAY) for each in place.users))
        assert BUDGET_SECONDS / 2 < time.monotonic() - killed < BUDGET_SECONDS + 3
        for each in place.users:
            assert await each.answers(granted.consistency_token) is AWAY
            assert (await each.replica()).state == common_pb2.HEALTH_STATE_DEGRADED
        await place.restart()
        for each in place.users:
            await _until(each, ALLOWED)
            await _in_process(each)
        token = await place.revoke(granted.role_binding.name)
        assert [await each.answers(token) for each in place.users] == [DENIED, DENIED]


async def test_who_was_turned_out_does_not_see_what_came_after_at_replicas_whose_streams_stand_still(
    tmp_path: Path,
) -> None:
    async with placed(tmp_path, budget=60.0, relay=True) as place:
        for _ in range(3):
            granted = await place.grant()
            for each in place.users:
                assert await each.answers(granted.consistency_token) is ALLOWED
                await _answers_alone(place, each)
            place.relay.flowing.clear()
            await place.revoke(granted.role_binding.name)
            token = await place.change_content()
            # They have heard nothing: without the token of what came after, the old friend is let in.
            assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
            assert [await each.answers(token) for each in place.users] == [DENIED, DENIED]
            assert [await each.answers() for each in place.users] == [ALLOWED, ALLOWED]
            place.relay.flowing.set()
            await asyncio.gather(*(_until(each, DENIED) for each in place.users))


async def _answers_alone(place: Place, instance: Instance) -> None:
    """Return when the instance lets the guest in without asking anybody."""
    async with asyncio.timeout(SECONDS):
        while True:
            before = place.relay.asked
            assert await instance.answers() is ALLOWED
            if place.relay.asked == before:
                return


async def _in_process(instance: Instance) -> None:
    """Return when the instance's replica is there and fresh."""
    async with asyncio.timeout(SECONDS):
        while (await instance.replica()).state != common_pb2.HEALTH_STATE_HEALTHY:
            await instance.answers()
