"""From a `Service` value to a running process, and out again without dropping a call."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import uvloop

from pyairtable_mesh.runtime import builder, log, xds
from pyairtable_mesh.runtime import settings as settings_module
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.server import Running
from pyairtable_mesh.runtime.service import S, Service
from pyairtable_mesh.runtime.settings import SettingsError

USAGE = 2
FAILED = 1
logger = logging.getLogger(__name__)


def now() -> datetime:
    """The clock of a running process: aware, in UTC."""
    return datetime.now(UTC)


def run(service: Service[S], arguments: Sequence[str] | None = None) -> None:
    """Run a service until SIGTERM or SIGINT; with ``migrate`` bring its database up to date and end.

    Ends with status 2 when the settings are wrong and 1 when the service cannot start; both in words on standard error.
    """
    command = list(sys.argv[1:] if arguments is None else arguments) or ["serve"]
    if command not in (["serve"], ["migrate"]):
        sys.exit(f"usage: {service.name} [serve | migrate]")
    settings = load(service)
    log.configure(service.name, form=settings.log_format, level=settings.log_level)
    try:
        uvloop.run(serve(service, settings) if command == ["serve"] else builder.migrate(service, settings))
    except MeshError as error:
        logger.error("%s cannot start: %s", service.name, error.message)  # noqa: TRY400 - its words are the message
        sys.exit(FAILED)


def load(service: Service[S]) -> S:
    """The settings from the environment; ends the process with one line for each wrong value."""
    try:
        settings = settings_module.load(service.settings, os.environ)
        builder.check(service, settings)
    except SettingsError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(USAGE)
    return settings


async def serve(service: Service[S], settings: S, stopping: asyncio.Event | None = None) -> None:
    """Serve until `stopping` is set or a signal comes; the shutdown has two stages.

    First NOT_SERVING is shown while calls are still taken, so that clients go elsewhere; then the listener closes,
    calls in flight finish, and telemetry is flushed. A second signal skips the waiting.
    """
    stopping = stopping or asyncio.Event()
    hurry = asyncio.Event()
    _on_signals(stopping, hurry)
    instance = xds.instance_name()
    xds.configure(
        os.environ,
        control_plane=settings.control_plane,
        service=service.name,
        namespace=settings.namespace,
        instance=instance,
    )
    async with AsyncExitStack() as resources:
        running = await _unless(stopping, builder.build(service, settings, instance, now, resources))
        if running is None:
            return
        await running.start()
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(task()) for task in running.background]
            await stopping.wait()
            await _leave(running, settings.removal_seconds, settings.drain_seconds, hurry)
            for task in work:
                task.cancel()


async def _unless(stopping: asyncio.Event, building: Coroutine[Any, Any, Running]) -> Running | None:
    """What is built; None when the process is to stop first, while it waits for its database."""
    work, end = asyncio.create_task(building), asyncio.create_task(stopping.wait())
    await asyncio.wait((work, end), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        end.cancel()
        return work.result()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return None


async def _leave(running: Running, removal: float, drain: float, hurry: asyncio.Event) -> None:
    logger.info("leaving: NOT_SERVING for %g s, then at most %g s for calls in flight", removal, drain)
    await running.health.leave()
    try:
        async with asyncio.timeout(removal):
            await hurry.wait()
    except TimeoutError:
        pass
    await running.stop(0 if hurry.is_set() else drain)


def _on_signals(stopping: asyncio.Event, hurry: asyncio.Event) -> None:
    def leave() -> None:
        (hurry if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, leave)
