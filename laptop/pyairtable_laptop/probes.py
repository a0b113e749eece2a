"""Looks at one process's health: `grpc.health.v1` Watch for its word, and a question now and then for its silence."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LIVENESS = "liveness"
PERIOD_SECONDS = 1.0
SILENCE_SECONDS = 2.0
RETRY_SECONDS = 0.05

Tell = Callable[[bool], None]
"""Told True when the process takes calls, False when it does not; again and again, changed or not."""
Watch = Callable[[str, Tell], Coroutine[Any, Any, None]]

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    # Without it the channel of a process that was replaced could be handed to its successor.
    ("grpc.use_local_subchannel_pool", 1),
)


async def watch(address: str, tell: Tell) -> None:
    """Follow a process's health until cancelled. A process that is frozen is as bad as one that says NOT_SERVING."""
    async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.TaskGroup() as tasks:
            word = _Word(tell)
            tasks.create_task(_listen(stub, word))
            tasks.create_task(_ask(stub, word))


class _Word:
    """Both sources together: serving while the process says so and answers."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._serving = False
        self._silent = False

    def serving(self, serving: bool) -> None:
        self._serving = serving
        self._tell(self._serving and not self._silent)

    def silent(self, silent: bool) -> None:
        self._silent = silent
        self._tell(self._serving and not self._silent)


async def _listen(stub: Any, word: _Word) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError):
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                word.serving(answer.status == health_pb2.HealthCheckResponse.SERVING)
        # Most often the process has ended, which its supervisor sees by itself within this time.
        await asyncio.sleep(RETRY_SECONDS)
        word.serving(False)


async def _ask(stub: Any, word: _Word) -> None:
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS), timeout=SILENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            # Whoever has no such name (the control plane) is alive all the same.
            word.silent(error.code() is not grpc.StatusCode.NOT_FOUND)
        else:
            word.silent(False)
