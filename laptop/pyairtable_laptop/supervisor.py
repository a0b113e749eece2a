"""Keeps the platform's processes running: starts them, follows their health, replaces those that die, ends them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from pyairtable_laptop import probes, processes
from pyairtable_laptop.mesh import MeshFile
from pyairtable_laptop.plan import CONTROL_PLANE, DRAIN_SECONDS, REMOVAL_SECONDS, Plan
from pyairtable_operator.model import Health

START_SECONDS = 60.0
TRIES = 3
"""How often a process may end before it served for the first time; then the start has failed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
STABLE_SECONDS = 30.0
HOUSEKEEPING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process. `kind` is one of started, serving, unready, ended, killed."""

    kind: str
    process: str
    pid: int
    words: str
    lines: tuple[str, ...] = ()


Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class State:
    """How one process is; `pid` is 0 between two lives."""

    name: str
    service: str
    address: str
    health_address: str
    pid: int
    serving: bool


@dataclass(slots=True)
class Backoff:
    """How long to pause before the next start: at once after a long life, then longer and longer (seconds)."""

    pause: float = FIRST_PAUSE

    def after(self, lifetime: float) -> float:
        """The pause after a process that lived for `lifetime` seconds."""
        now = FIRST_PAUSE if lifetime >= STABLE_SECONDS else self.pause
        self.pause = min(now * 2, LONGEST_PAUSE)
        return now


class _Instance:
    """What is known about the process of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.running: processes.Running | None = None
        self.serving = False
        self.served = asyncio.Event()

    def state(self) -> State:
        plan = self.plan
        pid = self.running.process.pid if self.running is not None else 0
        return State(plan.name, plan.service, plan.address, plan.health_address, pid, self.serving)


class Supervisor:
    """Runs the plans. Made inside the event loop; `run` in a task, `ready`, cancel the task, `stop`."""

    def __init__(
        self,
        plans: Sequence[Plan],
        mesh: MeshFile,
        leash: processes.Leash,
        tell: Tell,
        watch: probes.Watch = probes.watch,
    ) -> None:
        self._instances = {plan.name: _Instance(plan) for plan in plans}
        self._mesh = mesh
        self._leash = leash
        self._tell = tell
        self._watch = watch

    async def run(self) -> None:
        """Keep every process running until cancelled; click.ClickException when one can't be started."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for instance in self._instances.values():
                    tasks.create_task(self._keep(instance), name=instance.plan.name)
                tasks.create_task(self._housekeeping())
        except* click.ClickException as failures:
            raise failures.exceptions[0] from None

    async def ready(self) -> None:
        """Wait until every process has served; click.ClickException when that takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                for instance in self._instances.values():
                    await instance.served.wait()
        except TimeoutError:
            late = [each for each in self._instances.values() if not each.served.is_set()]
            raise click.ClickException(
                "\n".join(
                    f"{each.plan.name} was not ready within {START_SECONDS:g} s; its log says why: {each.plan.log}"
                    for each in late
                )
            ) from None

    def states(self) -> list[State]:
        """How every process is now."""
        return [each.state() for each in self._instances.values()]

    async def stop(self, hurry: asyncio.Event) -> list[str]:
        """Once `run` is cancelled: end everything, the control plane last; the names of those that had to be killed."""
        running = [each.running for each in self._instances.values() if each.running is not None]
        services = [each for each in running if each.plan.service != CONTROL_PLANE]
        killed = await processes.stop(services, REMOVAL_SECONDS + DRAIN_SECONDS + 2, hurry)
        others = [each for each in running if each.plan.service == CONTROL_PLANE]
        return killed + await processes.stop(others, DRAIN_SECONDS, hurry)

    async def _keep(self, instance: _Instance) -> None:
        plan, backoff = instance.plan, Backoff()
        if plan.follows:
            await self._instances[plan.follows].served.wait()
        tries = 0
        while True:
            begun = time.monotonic()
            instance.running = running = await self._leash.start(plan)
            self._tell(Event("started", plan.name, running.process.pid, f"{plan.name} started"))
            status = await self._follow(instance, running)
            instance.running = None
            tries += 1
            if status == processes.WRONG_SETTINGS or (tries >= TRIES and not instance.served.is_set()):
                raise _failed(running, status)
            pause = backoff.after(time.monotonic() - begun)
            words = f"{plan.name} {processes.ending(status)}; it is started again in {pause:g} s. Its log: {plan.log}"
            self._tell(Event("ended", plan.name, running.process.pid, words, tuple(running.last_lines())))
            await asyncio.sleep(pause)

    async def _follow(self, instance: _Instance, running: processes.Running) -> int:
        """Follow a process to its end: its health goes into the mesh, and with its end it is out."""
        plan = instance.plan
        watching = asyncio.create_task(self._watch(plan.health_address, lambda yes: self._told(instance, yes)))
        try:
            return await running.ended()
        finally:
            instance.serving = False
            self._mesh.put(plan.name, None)
            watching.cancel()
            await asyncio.wait([watching])

    def _told(self, instance: _Instance, serving: bool) -> None:
        running = instance.running
        if serving == instance.serving or running is None:
            return
        instance.serving = serving
        name, pid = instance.plan.name, running.process.pid
        self._mesh.put(name, Health.HEALTHY if serving else Health.DRAINING)
        if serving:
            instance.served.set()
            self._tell(Event("serving", name, pid, f"{name} takes calls at {instance.plan.address}"))
        else:
            words = f"{name} takes no calls for now. Its log: {instance.plan.log}"
            self._tell(Event("unready", name, pid, words, tuple(running.last_lines())))

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            for instance in self._instances.values():
                await asyncio.to_thread(processes.trim, instance.plan.log)


def _failed(running: processes.Running, status: int) -> click.ClickException:
    plan = running.plan
    said = "".join(f"\n  {line}" for line in running.last_lines())
    return click.ClickException(
        f"{plan.name} {processes.ending(status)}, and is not started again. Its last lines:{said}\n"
        f"All of its log: {plan.log}"
    )
