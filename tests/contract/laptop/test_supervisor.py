"""The supervisor on small processes of its own kind: a module that does what the test wants, without gRPC."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from pyairtable_laptop import plan, probes, processes, supervisor
from pyairtable_laptop.mesh import MeshFile
from pyairtable_operator.providers import document

SLEEP = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
CRASH = "import sys; print('first'); print('no such thing'); sys.exit(1)"


@dataclass
class World:
    """A supervisor under test. Health is what the test says: a process serves as soon as its log has a line."""

    folder: Path
    plans: list[plan.Plan] = field(default_factory=list)
    events: list[supervisor.Event] = field(default_factory=list)
    leash: processes.Leash = field(default_factory=processes.Leash)
    keeper: supervisor.Supervisor | None = None

    def add(self, name: str, source: str, service: str = "user") -> None:
        program = self.folder / f"{name}.py"
        program.write_text(source)
        taken = plan.Ports(1000 + len(self.plans), len(self.plans))
        log = self.folder / f"{name}.log"
        self.plans.append(plan.Plan(name, service, (sys.executable, str(program)), os.environ, taken, log))

    async def watch(self, address: str, tell: probes.Tell) -> None:
        log = self.plans[int(address.rpartition(":")[2])].log
        await until(f"a line in {log.name}", lambda: "here" in log.read_text())
        tell(True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        mesh = MeshFile(self.folder / "mesh.yaml", self.plans)
        self.keeper = supervisor.Supervisor(self.plans, mesh, self.leash, self.events.append, self.watch)
        task = asyncio.create_task(self.keeper.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.keeper.stop(asyncio.Event())
            self.leash.close()

    def pid(self, name: str) -> int:
        assert self.keeper is not None
        return next(state.pid for state in self.keeper.states() if state.name == name)

    def endpoints(self) -> int:
        mesh = document.parse((self.folder / "mesh.yaml").read_text())
        return sum(len(service.endpoints) for service in mesh.services)


async def until(what: str, condition: Callable[[], bool], seconds: float = 10) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - it looks at other processes
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited {seconds} s for {what}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_a_killed_process_leaves_the_mesh_at_once_and_is_replaced(world: World) -> None:
    world.add("user", SLEEP)
    async with world.running():
        assert world.keeper is not None
        await world.keeper.ready()
        assert world.endpoints() == 1
        before = world.pid("user")
        os.kill(before, signal.SIGKILL)
        await until("the death in the mesh", lambda: world.endpoints() == 0)
        await until("another process", lambda: world.pid("user") not in {0, before})
    ended = next(event for event in world.events if event.kind == "ended")
    assert "was ended by SIGKILL; it is started again in 0.1 s" in ended.words
    assert ended.lines == ("here",)


async def test_a_process_that_never_serves_fails_the_start_with_its_last_lines(world: World) -> None:
    world.add("user", CRASH)
    async with world.running() as task:
        with pytest.raises(click.ClickException) as failed:
            await asyncio.wait_for(task, 10)
    assert "user ended with exit status 1" in failed.value.message
    assert "no such thing" in failed.value.message
    assert str(world.plans[0].log) in failed.value.message
    assert [event.kind for event in world.events].count("started") == supervisor.TRIES


async def test_wrong_settings_are_not_tried_again(world: World) -> None:
    world.add("user", "import sys; sys.exit(2)")
    async with world.running() as task:
        with pytest.raises(click.ClickException, match="settings are wrong"):
            await asyncio.wait_for(task, 10)
    assert [event.kind for event in world.events] == ["started"]


async def test_a_program_that_is_not_there_is_named(world: World) -> None:
    world.add("user", SLEEP)
    world.plans[0] = dataclasses.replace(world.plans[0], command=("/no/such/program",))
    async with world.running() as task:
        with pytest.raises(click.ClickException, match="/no/such/program can't be started: No such file or directory"):
            await asyncio.wait_for(task, 10)


async def test_stop_ends_everything_and_names_what_had_to_be_killed(world: World) -> None:
    world.add("user", SLEEP)
    world.add("user-2", STUBBORN)
    async with world.running() as task:
        assert world.keeper is not None
        await world.keeper.ready()
        pids = [world.pid("user"), world.pid("user-2")]
        task.cancel()
        await asyncio.wait([task])
        hurry = asyncio.Event()
        ending = asyncio.create_task(world.keeper.stop(hurry))
        await until("the end of the one that listens", lambda: not is_alive(pids[0]))
        hurry.set()
        assert await ending == ["user-2"]
        assert not is_alive(pids[1])


async def test_processes_end_with_their_supervisor(world: World, tmp_path: Path) -> None:
    """The leash alone: its other end closes as it does when the supervisor is killed."""
    world.add("user", SLEEP)
    running = await world.leash.start(world.plans[0])
    await until("the process", lambda: "here" in world.plans[0].log.read_text())
    world.leash.close()
    assert await asyncio.wait_for(running.ended(), 5) == -signal.SIGTERM


def test_backoff_grows_to_its_limit_and_forgets_after_a_long_life() -> None:
    backoff = supervisor.Backoff()
    assert [backoff.after(1) for _ in range(10)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]
    assert backoff.after(supervisor.STABLE_SECONDS) == 0.1


def test_a_log_is_kept_below_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MAX_LOG_BYTES", 10)
    log = tmp_path / "user.log"
    log.write_bytes(b"0123456789abc")
    processes.trim(log)
    assert (log.read_bytes(), (tmp_path / "user.log.1").read_bytes()) == (b"", b"3456789abc")
    processes.trim(tmp_path / "absent.log")


@pytest.mark.parametrize(
    ("status", "words"),
    [(-9, "was ended by SIGKILL"), (2, "settings are wrong"), (1, "exit status 1"), (0, "exit status 0")],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert words in processes.ending(status)
