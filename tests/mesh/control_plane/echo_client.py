"""A client that calls through gRPC's own xDS client and reports on itself.

Reads commands from standard input, one JSON object a line, and answers each with one:
- `{"do": "load", "target": ..., "workers": n, "deadline": seconds}` starts calling, again and again, for good;
- `{"do": "report"}` gives what happened since the report before: answers by backend, failures as text, the latest
  call in seconds, and when each backend first answered, in seconds of the machine's monotonic clock;
- `{"do": "call", "target": ..., "deadline": seconds}` makes one call on a channel of its own.

The bootstrap comes by GRPC_XDS_BOOTSTRAP_CONFIG.
"""

import asyncio
import collections
import json
import sys
import time
from typing import Any

import grpc

METHOD = "/test.Echo/Echo"


class Load:
    """Workers on one channel, and what they have seen since the last report."""

    def __init__(self) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.first: dict[str, float] = {}
        self.slowest = 0.0

    def start(self, target: str, workers: int, deadline: float) -> list["asyncio.Task[None]"]:
        channel = grpc.aio.insecure_channel(target, options=[("grpc.client_idle_timeout_ms", 2**31 - 1)])
        return [asyncio.create_task(self._work(channel, deadline)) for _ in range(workers)]

    def report(self) -> dict[str, Any]:
        found = {
            "answers": dict(self.answers),
            "failures": self.failures,
            "first": self.first,
            "slowest": self.slowest,
        }
        self.answers, self.failures, self.first, self.slowest = collections.Counter(), [], {}, 0.0
        return found

    async def _work(self, channel: grpc.aio.Channel, deadline: float) -> None:
        call: Any = channel.unary_unary(METHOD)
        while True:
            begun = time.monotonic()
            try:
                name = (await call(b"", timeout=deadline)).decode()
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.01)
            else:
                now = time.monotonic()
                self.answers[name] += 1
                self.first.setdefault(name, now)
                self.slowest = max(self.slowest, now - begun)
            await asyncio.sleep(0.001)


async def once(target: str, deadline: float) -> dict[str, Any]:
    begun = time.monotonic()
    async with grpc.aio.insecure_channel(target) as channel:
        call: Any = channel.unary_unary(METHOD)
        try:
            answer = {"answer": (await call(b"", timeout=deadline)).decode()}
        except grpc.aio.AioRpcError as error:
            answer = {"code": error.code().name, "details": error.details() or ""}
    return {**answer, "seconds": time.monotonic() - begun}


async def main() -> None:
    load, tasks = Load(), []
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        match command["do"]:
            case "load":
                tasks += load.start(command["target"], command["workers"], command["deadline"])
                answer: dict[str, Any] = {}
            case "report":
                answer = load.report()
            case _:
                answer = await once(command["target"], command["deadline"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
