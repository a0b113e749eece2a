"""A worker does one thing after the other, and what was given to it is done whoever gives up waiting."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pyairtable_mesh.runtime.worker import Worker
from tests.contract.runtime.permission_server import until


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.end(lambda: None)


async def test_what_is_returned_and_what_is_raised_come_back(worker: Worker) -> None:
    assert await worker.do(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await worker.do(lambda: 1 / 0)
    assert worker.idle


async def test_what_is_given_up_is_done_in_its_turn_all_the_same(worker: Worker) -> None:
    held = threading.Event()
    done: list[int] = []
    first = worker.do(held.wait)
    second, third = worker.do(lambda: done.append(2)), worker.do(lambda: done.append(3))
    second.cancel()
    assert not worker.idle
    held.set()
    await asyncio.gather(first, third)
    assert done == [2, 3]
    assert worker.idle


async def test_a_worker_ends_behind_what_it_was_given() -> None:
    done: list[int] = []
    worker = Worker("ending")
    waiting = worker.do(lambda: done.append(1))

    def last() -> None:
        done.append(2)
        raise ZeroDivisionError

    worker.end(last)
    with pytest.raises(RuntimeError):
        worker.do(last)
    await waiting
    await until("the thread's end", lambda: all(thread.name != "ending" for thread in threading.enumerate()))
    assert done == [1, 2]


async def test_nobody_is_told_when_the_loop_has_ended(worker: Worker) -> None:
    held = threading.Event()

    async def begin() -> None:
        worker.do(held.wait)

    await asyncio.to_thread(asyncio.run, begin())
    held.set()
    assert await worker.do(lambda: 1) == 1
