"""From an endpoint change to a client's first call at the new endpoint.

A change moves the service from one backend to another: `write_inventory`, file provider, snapshot, ADS, the client's
xDS, a new connection, and a call on it. The clock starts when `write_inventory` is called, and stops when the first
answer of the new backend is there. The client calls one after the other with a pause of 1 ms, over `xds:///echo`;
backends, client and control plane are processes of their own.
"""

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import uvloop

from bench import echo, load
from bench.figures import Figure, Goal
from bench.measure import BenchmarkError, Process, middle, percentile, process
from bench.mesh import Mesh, mesh

CHANGES, QUICK_CHANGES = 200, 4
PAUSE_SECONDS = 0.001
CHANGE_SECONDS = 10.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """The 50th and 99th percentile over all changes, and the calls that failed meanwhile."""
    with process("-m", "bench.echo") as one, process("-m", "bench.echo") as two:
        ports = [int(one.line()), int(two.line())]
        with (
            mesh(ports[:1]) as running,
            process("-m", "bench.endpoint", environment=running.bootstrap("client")) as client,
        ):
            _until_answered_by(client, ports[0])
            delays = [_change(running, client, ports[number % 2]) for number in range(1, changes(quick) + 1)]
            failures = int(client.ask("end").split()[1])
    milliseconds = [delay * 1e3 for delay in delays]
    yield Figure("endpoint change to first call at it, p50", middle(milliseconds), "ms")
    yield Figure("endpoint change to first call at it, p99", percentile(milliseconds, 0.99), "ms", Goal("at most", 25))
    yield Figure("calls that failed during the changes", failures, goal=Goal("at most", 0))


def changes(quick: bool) -> int:
    """How many changes are made."""
    return QUICK_CHANGES if quick else CHANGES


def _change(running: Mesh, client: Process, port: int) -> float:
    # Changes come at any moment of the provider's period.
    time.sleep(random.uniform(0.02, 0.05))
    begun = time.monotonic()
    running.write([port])
    return _until_answered_by(client, port) - begun


def _until_answered_by(client: Process, port: int) -> float:
    """The time on the monotonic clock at which the client had the first answer of a backend."""
    backend, moment = client.line(CHANGE_SECONDS).split()
    if backend != str(port):
        raise BenchmarkError(f"the backend on port {backend} answered where the one on port {port} was due")
    return float(moment)


async def call_on() -> None:
    """Print backend and time whenever another one answers; after a line of input, ``failures`` and their number."""
    ending = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    last, failures = b"", 0
    async with grpc.aio.insecure_channel("xds:///echo", load.OPTIONS) as channel:
        call: Any = channel.unary_unary(echo.METHOD)
        while not ending.done():
            try:
                backend = await call(b"", timeout=load.CALL_SECONDS)
            except grpc.aio.AioRpcError:
                failures += 1
            else:
                if backend != last:
                    print(backend.decode(), time.monotonic(), flush=True)
                last = backend
            await asyncio.sleep(PAUSE_SECONDS)
    print("failures", failures, flush=True)


if __name__ == "__main__":
    uvloop.run(call_on())
