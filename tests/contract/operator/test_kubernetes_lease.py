"""The Lease on a clock of its own: who writes, and from when to when."""

import dataclasses
import datetime

import pytest

from pyairtable_operator.providers.kubernetes.lease import Election, Lease

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Kept:
    """A Lease in memory. `away` is an API server that is not there, `overtaken` one that another was quicker at."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.away = False
        self.overtaken = False
        self._version = 0

    async def read(self) -> Lease | None:
        if self.away:
            raise OSError
        return self.lease

    async def write(self, lease: Lease) -> Lease | None:
        if self.away:
            raise OSError
        if self.overtaken or lease.version != (self.lease.version if self.lease else ""):
            return None
        self._version += 1
        self.lease = dataclasses.replace(lease, version=str(self._version))
        return self.lease


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept() -> Kept:
    return Kept()


def replica(kept: Kept, clock: Clock, identity: str) -> Election:
    return Election(kept, identity, clock=clock, now=lambda: NOW + datetime.timedelta(seconds=clock.seconds))


async def test_the_first_takes_it_and_the_second_waits(kept: Kept, clock: Clock) -> None:
    first, second = replica(kept, clock, "a"), replica(kept, clock, "b")
    assert not first.leading
    await first.step()
    await second.step()
    assert (first.leading, second.leading) == (True, False)
    assert kept.lease is not None
    assert (kept.lease.holder, kept.lease.transitions) == ("a", 0)


async def test_a_holder_that_renews_stays(kept: Kept, clock: Clock) -> None:
    first, second = replica(kept, clock, "a"), replica(kept, clock, "b")
    for _ in range(20):
        await first.step()
        await second.step()
        clock.seconds += 2
        assert (first.leading, second.leading) == (True, False)
    assert kept.lease is not None
    assert kept.lease.acquired < kept.lease.renewed


async def test_a_holder_that_is_gone_is_followed_when_its_time_is_over(kept: Kept, clock: Clock) -> None:
    first, second = replica(kept, clock, "a"), replica(kept, clock, "b")
    await first.step()
    await second.step()
    clock.seconds += 14.9
    await second.step()
    assert not second.leading
    clock.seconds += 0.2
    await second.step()
    assert second.leading
    assert kept.lease is not None
    assert (kept.lease.holder, kept.lease.transitions) == ("b", 1)
    await first.step()
    assert not first.leading


async def test_the_clock_of_another_machine_does_not_matter(kept: Kept, clock: Clock) -> None:
    long_ago = datetime.datetime(1999, 1, 1, tzinfo=datetime.UTC)
    kept.lease = Lease("other", 15, long_ago, long_ago, version="7")
    election = replica(kept, clock, "a")
    await election.step()
    assert not election.leading


async def test_two_never_lead_at_once_when_one_can_not_reach_the_api_server(kept: Kept, clock: Clock) -> None:
    cut_off, other = replica(kept, clock, "a"), replica(kept, clock, "b")
    await cut_off.step()
    await other.step()
    ended = begun = None
    for tenth in range(200):
        kept.away = True
        with pytest.raises(OSError, match=r"^$"):
            await cut_off.step()
        kept.away = False
        await other.step()
        assert not (cut_off.leading and other.leading)
        ended = tenth if ended is None and not cut_off.leading else ended
        begun = tenth if begun is None and other.leading else begun
        clock.seconds += 0.1
    assert (ended, begun) == (100, 150)


async def test_a_holder_that_was_overtaken_stops(kept: Kept, clock: Clock) -> None:
    election = replica(kept, clock, "a")
    await election.step()
    kept.overtaken = True
    await election.step()
    assert not election.leading


async def test_what_is_released_is_taken_at_once(kept: Kept, clock: Clock) -> None:
    first, second = replica(kept, clock, "a"), replica(kept, clock, "b")
    await first.step()
    await second.step()
    await first.release()
    await second.step()
    assert (first.leading, second.leading) == (False, True)


async def test_what_another_holds_is_not_released(kept: Kept, clock: Clock) -> None:
    first, second = replica(kept, clock, "a"), replica(kept, clock, "b")
    await first.step()
    await second.release()
    assert kept.lease is not None
    assert kept.lease.holder == "a"


async def test_a_replica_that_came_back_under_its_name_goes_on(kept: Kept, clock: Clock) -> None:
    await replica(kept, clock, "a").step()
    again = replica(kept, clock, "a")
    await again.step()
    assert again.leading
    assert kept.lease is not None
    assert kept.lease.transitions == 0
