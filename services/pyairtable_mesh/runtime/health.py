"""Health of a process, as ``grpc.health.v1`` tells it.

Readiness is ``""`` and each full service name: SERVING when every dependency answers. Liveness is the name
``liveness`` and depends on the event loop alone (it answers, so it lives): a database that blinks restarts nothing.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as aio_health

from pyairtable_mesh.runtime.errors import MeshError

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
"""Returns when the dependency answers, raises when it does not."""
LIVENESS = "liveness"
CHECK_SECONDS = 2.0
PERIOD_SECONDS = 5.0
RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Dependency:
    """How a dependency was when it was last looked at; `latency` in seconds, `checked` in seconds of the epoch.

    `detail` is a sentence for the operator, empty while all is well. Without one that is not `required` the service is
    ready all the same.
    """

    name: str
    healthy: bool
    detail: str
    latency: float
    checked: float
    required: bool = True


class _Servicer(aio_health.HealthServicer):
    """`grpcio-health-checking`'s, whose watches end with the process and hold no shutdown up."""

    def __init__(self, ending: asyncio.Event) -> None:
        super().__init__()
        self._ending = ending

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Tell each state as it comes, until the client or the process leaves."""
        steps = [asyncio.ensure_future(super().Watch(request, context)), asyncio.ensure_future(self._ending.wait())]
        try:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in done:
                step.result()
        finally:
            for step in steps:
                step.cancel()


class Health:
    """Looks at the dependencies, and tells probes and watchers the outcome."""

    def __init__(self, services: list[str], checks: Mapping[str, Check]) -> None:
        self._ending = asyncio.Event()
        self.servicer = _Servicer(self._ending)
        self.dependencies: dict[str, Dependency] = {}
        self._names = ["", *services]
        self._checks = dict(checks)
        self._leaving = False
        self._ready: bool | None = None
        self._telling = asyncio.Lock()

    async def start(self) -> None:
        """Alive at once, ready after the first look."""
        await self.servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._tell(False)

    async def watch(self) -> None:
        """Look at the dependencies again and again; sooner while something is wrong. Runs until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_SECONDS if self._ready else RETRY_SECONDS)

    async def look(self) -> bool:
        """Check every dependency once, at the same time; True when all answered."""
        found = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        for dependency in found:
            before = self.dependencies.get(dependency.name)
            if before is None or before.healthy != dependency.healthy:
                level = logging.INFO if dependency.healthy else logging.WARNING
                logger.log(level, "%s: %s", dependency.name, dependency.detail or "healthy")
            self.dependencies[dependency.name] = dependency
        ready = all(dependency.healthy for dependency in found)
        await self._tell(ready)
        return ready

    def answering(self) -> dict[str, bool]:
        """Whether each dependency answered when it was last looked at."""
        return {name: found.healthy for name, found in self.dependencies.items()}

    async def leave(self) -> None:
        """NOT_SERVING for good: the first stage of the shutdown."""
        self._leaving = True
        await self._tell(False)

    def end(self) -> None:
        """End every watch: the second stage."""
        self._ending.set()

    async def _tell(self, ready: bool) -> None:
        ready = ready and not self._leaving
        if ready == self._ready:
            return
        self._ready = ready
        serving = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        async with self._telling:
            for name in self._names:
                await self.servicer.set(name, serving)

    @staticmethod
    async def _check(name: str, check: Check) -> Dependency:
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except TimeoutError:
            detail = f"no answer for {CHECK_SECONDS:g} s; see whether it is overloaded or unreachable"
        except MeshError as error:
            detail = error.message
        except Exception as error:
            detail = f"fails with {type(error).__name__}; the log has the rest"
            logger.debug("%s fails", name, exc_info=error)
        else:
            detail = ""
        return Dependency(name, not detail, detail, time.perf_counter() - begun, time.time())
