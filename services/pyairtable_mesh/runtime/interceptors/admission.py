"""Keeps a service standing under load: bounded rate and concurrency, and a deadline on every unary call."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from math import inf
from typing import Any

from pyairtable_mesh.runtime.errors import DeadlineExceeded, ResourceExhausted
from pyairtable_mesh.runtime.interceptors.call import Call, Method, Proceed, Wrapper


class Bucket:
    """A token bucket: `rate` calls a second, as many at once after a second of rest. A rate of 0 has no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = self._most = max(rate, 1.0)
        self._filled = time.monotonic()

    def wait(self) -> float:
        """Take a token: 0, or the seconds until there is one."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0

    def reserve(self) -> float:
        """Take the next token that comes: the seconds until then. Whoever reserves is served in turn."""
        if not self._rate:
            return 0.0
        if delay := self.wait():
            self._tokens -= 1
        return delay

    async def paced(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The messages of a request stream, each for a token; the first is the call's own."""
        begun = False
        async for message in messages:
            if begun and (delay := self.reserve()):
                await asyncio.sleep(delay)
            begun = True
            yield message


def limit(max_calls: int, max_rate: float, default_deadline: float) -> Wrapper:
    """Refuse calls over `max_calls` in flight or `max_rate` a second; give unary calls without a deadline
    `default_deadline` seconds.

    Streams are counted apart: idle ones, which cost little and live long, take no place of a unary call. Their messages
    count for the rate as calls do; they are not refused but read later, and gRPC's flow control holds the sender.
    Message sizes are bounded by gRPC itself (`grpc.max_receive_message_length`), before anything is parsed here.
    """
    in_flight = {"calls": 0, "streams": 0}
    bucket = Bucket(max_rate)

    def intercept(method: Method, proceed: Proceed) -> Proceed:
        streaming = method.request_streaming or method.response_streaming
        kind = "streams" if streaming else "calls"

        async def bounded(call: Call) -> Any:
            call.context.deadline = time.monotonic() + default_deadline
            allotted = asyncio.timeout(default_deadline)
            try:
                async with allotted:
                    return await proceed(call)
            except TimeoutError:
                if not allotted.expired():
                    raise
                raise DeadlineExceeded(f"not done within {default_deadline:g} s, the default deadline") from None

        async def run(call: Call) -> Any:
            if delay := bucket.wait():
                raise ResourceExhausted(
                    f"this instance takes {max_rate:g} calls a second; try again",
                    reason="RATE_LIMITED",
                    metadata={"limit": f"{max_rate:g}"},
                    retry_after=timedelta(seconds=delay),
                )
            if in_flight[kind] >= max_calls:
                raise ResourceExhausted(
                    f"this instance serves {max_calls} {kind} at once; try again",
                    reason="CONCURRENCY_LIMITED",
                    metadata={"limit": str(max_calls)},
                    retry_after=timedelta(milliseconds=200),
                )
            in_flight[kind] += 1
            if call.requests is not None and max_rate:
                call.requests = bucket.paced(call.requests)
            try:
                if streaming or call.context.deadline != inf:
                    return await proceed(call)
                return await bounded(call)
            finally:
                in_flight[kind] -= 1

        return run

    return intercept
