"""A thread that does one thing after the other for an event loop, with half of an executor's way there and back."""

from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One thread. What was given to it is done even if nobody waits for it any more."""

    def __init__(self, name: str) -> None:
        self._jobs = SimpleQueue[Callable[[], None] | None]()
        self._given = 0
        self._done = 0
        self._ended = False
        Thread(target=self._work, name=name, daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether all that was given to it is done."""
        return self._done == self._given

    def do(self, function: Callable[[], T]) -> "Future[T]":
        """Call a function behind those before it; what it returns or raises. RuntimeError behind `end`."""
        if self._ended:
            raise RuntimeError("this worker has ended")
        loop = get_running_loop()
        future: Future[T] = loop.create_future()
        self._given += 1
        self._jobs.put(lambda: self._answer(function, future, loop))
        return future

    def end(self, last: Callable[[], object]) -> None:
        """Call a function behind those before it, and end; nobody hears of what it raises."""
        self._ended = True
        self._jobs.put(lambda: self._last(last))
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # and with it what it holds, while there is nothing to do

    def _answer(self, function: Callable[[], T], future: "Future[T]", loop: AbstractEventLoop) -> None:
        settle: Callable[[Any], None] = future.set_result
        result: Any
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            settle, result = future.set_exception, error
        self._done += 1
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, future, settle, result)
        del result  # an error has this frame in its traceback, and would live with it until a garbage collection

    @staticmethod
    def _last(function: Callable[[], object]) -> None:
        with suppress(Exception):
            function()


def _settle(future: "Future[Any]", settle: Callable[[Any], None], result: Any) -> None:
    if not future.done():
        settle(result)
