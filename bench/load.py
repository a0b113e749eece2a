"""A client in a process of its own: ``python -m bench.load '{"target": …, "method": …}'``.

Each line of its input is a number of calls to make, a multiple of `in_flight`, which are made at once; it answers with
the seconds that they took. Messages are bytes here, so that the client costs as little as it can. A failed call ends
the process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import grpc
import uvloop

from bench.measure import Process

CALL_SECONDS = 30
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.client_idle_timeout_ms", 2**31 - 1))


def arguments(
    target: str,
    method: str,
    in_flight: int,
    request: bytes = b"",
    metadata: Sequence[tuple[str, str]] = (),
    others: Sequence[bytes] = (),
) -> tuple[str, ...]:
    """The arguments of a process that calls `target` so; with `others`, these requests take turns with the first."""
    settings = {
        "target": target,
        "method": method,
        "in_flight": in_flight,
        "requests": [each.hex() for each in (request, *others)],
        "metadata": metadata,
    }
    return ("-m", "bench.load", json.dumps(settings))


@dataclass(frozen=True, slots=True)
class Contender:
    """A client, and the process whose CPU its calls are to be told by: its server, or the client itself."""

    client: Process
    watched: Process


@dataclass(frozen=True, slots=True)
class Samples:
    """One value a round: calls a second, and microseconds of the watched process's CPU for a call."""

    rates: list[float] = field(default_factory=list)
    microseconds: list[float] = field(default_factory=list)


def alternate(contenders: Mapping[str, Contender], calls: int, rounds: int) -> dict[str, Samples]:
    """Let each contender make its calls, round by round, in turns, so that the machine's noise falls on all of them.

    A round before the first one warms up. Every other round goes in reverse.
    """
    samples = {name: Samples() for name in contenders}
    for contender in contenders.values():
        contender.client.line()
        contender.client.ask(calls)
    for number in range(rounds):
        for name, contender in sorted(contenders.items(), reverse=bool(number % 2)):
            before = contender.watched.cpu_seconds()
            samples[name].rates.append(calls / float(contender.client.ask(calls)))
            samples[name].microseconds.append((contender.watched.cpu_seconds() - before) / calls * 1e6)
    return samples


async def serve(settings: Mapping[str, Any]) -> None:
    requests, metadata = cycle(map(bytes.fromhex, settings["requests"])), tuple(map(tuple, settings["metadata"]))
    async with grpc.aio.insecure_channel(settings["target"], OPTIONS) as channel:
        call: Any = channel.unary_unary(settings["method"])
        await call(next(requests), metadata=metadata, timeout=CALL_SECONDS, wait_for_ready=True)

        async def work(number: int) -> None:
            for _ in range(number):
                await call(next(requests), metadata=metadata, timeout=CALL_SECONDS)

        loop = asyncio.get_running_loop()
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            share = int(line) // settings["in_flight"]
            begun = time.perf_counter()
            await asyncio.gather(*(work(share) for _ in range(settings["in_flight"])))
            print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
