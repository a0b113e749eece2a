"""From the start of a process to SERVING, and its memory when idle, for each service and the control plane.

Each process has the settings that `make run` gives it, and is started several times, beside nothing but the control
plane: the first time on a new database. SERVING is what `grpc.health.v1` on its health port says. Memory is looked at
after a second of idleness; it is all that is resident, shared files of libraries included.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, Goal
from bench.measure import Process, middle, process
from bench.mesh import wait_until_serving
from pyairtable_laptop import issuer, plan
from pyairtable_laptop.folder import DataFolder, write_private
from pyairtable_operator.providers.file import write_inventory

STARTS, QUICK_STARTS = 6, 1
IDLE_SECONDS, QUICK_IDLE_SECONDS = 1.0, 0.0
START_GOAL, MEMORY_GOAL = Goal("at most", 1.5), Goal("at most", 130)


def measure(*, quick: bool) -> Iterator[Figure]:
    """Seconds and megabytes of each process: the median of all starts; and the first start on a new database."""
    starts, idle = (QUICK_STARTS, QUICK_IDLE_SECONDS) if quick else (STARTS, IDLE_SECONDS)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        control_plane, *services = plans(Path(folder))
        yield from _typical(control_plane, _samples(control_plane, starts, idle))
        with running(control_plane) as there:
            wait_until_serving(there, control_plane.ports.health)
            for service in services[:1] if quick else services:
                samples = _samples(service, starts, idle)
                what = f"{service.name}: first start to SERVING, on a new database"
                yield Figure(what, samples[0][0], "s", START_GOAL)
                yield from _typical(service, samples)


def _samples(each: plan.Plan, starts: int, idle: float) -> list[tuple[float, float]]:
    """Seconds until SERVING and megabytes when idle, for each start."""
    samples = []
    for _ in range(starts):
        with running(each) as started:
            seconds = wait_until_serving(started, each.ports.health)
            time.sleep(idle)
            samples.append((seconds, started.resident_kilobytes() / 1024))
    return samples


def _typical(each: plan.Plan, samples: Sequence[tuple[float, float]]) -> Iterator[Figure]:
    seconds, megabytes = zip(*samples, strict=True)
    yield Figure(f"{each.name}: start to SERVING", middle(seconds), "s", START_GOAL)
    yield Figure(f"{each.name}: idle memory", middle(megabytes), "MB", MEMORY_GOAL)


def plans(place: Path, **instances: int) -> list[plan.Plan]:
    """How `make run` would start each process on a new data folder, on free ports; keys and tokens are made."""
    folder = DataFolder(place)
    folder.make()
    issuer.users(folder)
    signer = issuer.workloads(folder)
    for service in plan.services():
        write_private(folder.tokens / f"{service}.jwt", issuer.workload_token(signer, service).encode())
    write_inventory(folder.mesh_file, [])
    return plan.plans(folder, instances, free_ports=True)


@contextmanager
def running(each: plan.Plan) -> Iterator[Process]:
    """The process of a plan, quiet unless something is wrong."""
    quiet = {
        "PYAIRTABLE_LOG_LEVEL": "ERROR",
        "PYAIRTABLE_OPERATOR_LOG_LEVEL": "ERROR",
        "GRPC_VERBOSITY": "NONE",  # its own words about peers that are not there
    }
    with process(*each.command[1:], environment={**each.environment, **quiet}) as started:
        yield started
