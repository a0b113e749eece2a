"""A client in a process of its own: ``python -m bench.load '{"target": …, "method": …}'``.

Each line of its input is a number of calls to make, a multiple of `in_flight`, which are made at once; it answers with
the seconds that they took. With `streams` they are messages of so many streams, which share what is in flight, and
each has a message as its answer. Messages are bytes here, so that the client costs as little as it can. A failed call
ends the process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
    *,
    streams: int = 0,
) -> tuple[str, ...]:
    """The arguments of a process that calls `target` so; with `others`, these requests take turns with the first."""
    settings = {
        "target": target,
        "method": method,
        "in_flight": in_flight,
        "requests": [each.hex() for each in (request, *others)],
        "metadata": metadata,
        "streams": streams,
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


Work = Callable[[int], Awaitable[None]]
"""Makes a number of calls, one after another."""


async def _unary(channel: grpc.aio.Channel, settings: Mapping[str, Any], requests: Iterator[bytes]) -> list[Work]:
    call: Any = channel.unary_unary(settings["method"])
    metadata = tuple(map(tuple, settings["metadata"]))
    await call(next(requests), metadata=metadata, timeout=CALL_SECONDS, wait_for_ready=True)

    async def work(number: int) -> None:
        for _ in range(number):
            await call(next(requests), metadata=metadata, timeout=CALL_SECONDS)

    return [work] * settings["in_flight"]


async def _streams(channel: grpc.aio.Channel, settings: Mapping[str, Any], requests: Iterator[bytes]) -> list[Work]:
    method: Any = channel.stream_stream(settings["method"])
    ahead = settings["in_flight"] // settings["streams"]

    def working(stream: Any) -> Work:
        async def answered(number: int) -> None:
            for _ in range(number):
                if await stream.read() is grpc.aio.EOF:
                    raise EOFError("the stream ended before all was answered")

        async def work(number: int) -> None:
            under_way = min(ahead, number)
            for _ in range(under_way):
                await stream.write(next(requests))
            for _ in range(number - under_way):
                await answered(1)
                await stream.write(next(requests))
            await answered(under_way)

        return work

    metadata = tuple(map(tuple, settings["metadata"]))
    works = [working(method(metadata=metadata, wait_for_ready=True)) for _ in range(settings["streams"])]
    for work in works:
        await work(1)
    return works


async def serve(settings: Mapping[str, Any]) -> None:
    requests = cycle(map(bytes.fromhex, settings["requests"]))
    async with grpc.aio.insecure_channel(settings["target"], OPTIONS) as channel:
        works = await (_streams if settings["streams"] else _unary)(channel, settings, requests)
        loop = asyncio.get_running_loop()
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            share = int(line) // len(works)
            begun = time.perf_counter()
            await asyncio.gather(*(work(share) for work in works))
            print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
