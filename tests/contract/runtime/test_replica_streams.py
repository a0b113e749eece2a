"""Streams of the embedded replica that break off, fall silent, or bring what is damaged or makes no sense."""

from collections.abc import Callable
from typing import Any

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from tests.contract.runtime.permission_server import (
    ALICE,
    TENANT,
    bound,
    token,
    until,
)
from tests.contract.runtime.replicating import running


async def test_a_lost_stream_is_resumed_behind_what_is_held() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.interrupt()
        await it.holds(it.server.write(bound("2", "owner", ALICE)))
        assert await it.may((TENANT, "manage_access"))
        assert [each.checkpoint_token for each in it.server.streams] == ["", token(1)]
        assert (it.replicas.loads, it.replicas.interruptions) == (1, 1)


async def test_a_stream_that_falls_silent_is_taken_up_again() -> None:
    async with running(budget=0.3) as it:
        await it.holds(1)
        it.server.silent = True
        it.server.signal.notify()
        await until("another stream", lambda: len(it.server.streams) > 1)
        it.server.silent = False
        it.server.signal.notify()
        await it.holds(it.server.write(bound("2", "owner", ALICE)))


async def test_what_is_kept_no_longer_begins_anew_with_a_snapshot() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.oldest = 3
        it.server.interrupt()
        it.server.write(bound("1", "viewer", ALICE, removed=True))
        await it.holds(it.server.write(bound("2", "owner", ALICE)))
        assert await it.may((TENANT, "manage_access"))
        assert it.replicas.loads == 2


async def test_a_snapshot_that_breaks_off_is_begun_anew() -> None:
    sent: list[pb.StreamReplicaResponse] = []

    def cut(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
        sent.append(message)
        if len(sent) == 2:
            raise ConnectionError
        return message

    async with running() as it:
        it.server.spoil = cut
        await it.holds(1)
        assert len(it.server.streams) == 2


async def test_a_snapshot_is_as_old_as_its_stream_however_long_its_parts_take() -> None:
    async with running() as it:

        def slow(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
            it.clock.ahead += 3
            it.server.silent = message.snapshot.last
            return message

        it.server.spoil = slow
        assert await it.may()
        await until("the snapshot", lambda: it.follower.copy.engine is not None)
        assert not it.follower.is_fresh
        it.server.write(bound("1", "viewer", ALICE, removed=True))
        assert not await it.may()


def _flipped(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    if message.HasField("snapshot"):
        message.snapshot.data = bytes(each ^ 1 for each in message.snapshot.data)
    return message


def _shortened(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    message.snapshot.data = message.snapshot.data[:-1]
    return message


def _without_end(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    message.snapshot.last = False
    return message


def _elsewhere(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    message.revision += 1
    return message


@pytest.mark.parametrize("spoil", [_flipped, _shortened, _without_end, _elsewhere])
async def test_a_damaged_snapshot_answers_nothing_and_is_asked_for_again(spoil: Callable[..., Any]) -> None:
    async with running() as it:
        it.server.spoil = spoil
        assert await it.may()
        await until("two tries", lambda: len(it.server.streams) > 1)
        assert await it.may()
        assert it.authorizer.answers == {"loading": 2}
        it.server.spoil = None
        await it.holds(1)


def _back(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    message.revision = 0
    return message


def _nonsense(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    return pb.StreamReplicaResponse(
        revision=message.revision + 1, changes=pb.ReplicaChanges(changes=[pb.PermissionChange()])
    )


def _unknown(message: pb.StreamReplicaResponse) -> pb.StreamReplicaResponse:
    odd = bound("9", "viewer", ALICE, "planet:earth")
    return pb.StreamReplicaResponse(revision=message.revision + 1, changes=pb.ReplicaChanges(changes=[odd]))


@pytest.mark.parametrize("spoil", [_back, _nonsense, _unknown])
async def test_what_cannot_follow_makes_the_replica_begin_anew(spoil: Callable[..., Any]) -> None:
    async with running() as it:
        await it.holds(1)
        it.server.spoil = spoil
        await until("nothing to be held", lambda: it.follower.copy.engine is None)
        it.server.spoil = None
        await it.holds(it.server.write(bound("2", "owner", ALICE)))
        assert it.server.streams[-1].checkpoint_token == ""


async def test_a_checkpoint_that_the_server_does_not_know_is_given_up() -> None:
    async with running() as it:
        await it.holds(1)
        it.server.silent = True
        it.follower.copy.checkpoint = "A" * 24
        it.server.interrupt()
        await until("a new beginning", lambda: it.server.streams[-1].checkpoint_token == "")
        it.server.silent = False
        it.server.signal.notify()
        await it.holds(1)
