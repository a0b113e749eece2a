"""A client in a process of its own: ``python -m bench.load '{"target": …, "method": …}'``.

Each line of its input is a number of calls to make, with `in_flight` at once; it answers with the seconds that they
took. Messages are bytes here, so that the client costs as little as it can. A failed call ends the process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import uvloop

from bench.measure import Process

CALL_SECONDS = 30
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.client_idle_timeout_ms", 2**31 - 1))


def arguments(
    target: str, method: str, in_flight: int, request: bytes = b"", metadata: Sequence[tuple[str, str]] = ()
) -> tuple[str, ...]:
    """The arguments of a process that calls `target` so."""
    settings = {
        "target": target,
        "method": method,
        "in_flight": in_flight,
        "request": request.hex(),
        "metadata": metadata,
    }
    return ("-m", "bench.load", json.dumps(settings))


def seconds_of(load: Process, calls: int) -> float:
    """Have a load make so many calls; the seconds from the first to the last."""
    return float(load.ask(calls))


async def serve(settings: Mapping[str, Any]) -> None:
    request, metadata = bytes.fromhex(settings["request"]), tuple(map(tuple, settings["metadata"]))
    async with grpc.aio.insecure_channel(settings["target"], OPTIONS) as channel:
        call: Any = channel.unary_unary(settings["method"])
        await call(request, metadata=metadata, timeout=CALL_SECONDS, wait_for_ready=True)

        async def work(number: int) -> None:
            for _ in range(number):
                await call(request, metadata=metadata, timeout=CALL_SECONDS)

        loop = asyncio.get_running_loop()
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            share = int(line) // settings["in_flight"]
            begun = time.perf_counter()
            await asyncio.gather(*(work(share) for _ in range(settings["in_flight"])))
            print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
