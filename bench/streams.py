"""From an endpoint change to the last of many ADS streams, and the control plane's memory for each of them.

Each stream has a TCP connection of its own, subscribes to the four types of `echo` and acknowledges what it gets, as
gRPC's own client does. The clock starts when `write_inventory` is called, and stops when the last stream has the new
endpoint. Memory is that of the control plane's process: what it has grown by, from none to all of the streams, with
all changes made. The clients share one process, and the machine with the control plane: the CPU that each side uses
for a stream and change tells which of them a change waited for.
"""

import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import uvloop
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from bench import load
from bench.figures import Figure, Goal
from bench.measure import middle, percentile, process
from bench.mesh import NAMESPACE, mesh
from pyairtable_mesh.runtime import garbage
from pyairtable_operator.xds.snapshot import ResourceType

STREAMS, CHANGES = 1_000, 200
QUICK_STREAMS, QUICK_CHANGES = 20, 3
CONNECTING_AT_ONCE = 50
SPARE_FILES = 200
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
CANONICAL_NAME = f"echo.{NAMESPACE}.svc.cluster.local:50051"
NAMES = {kind.value: "echo" if kind is ResourceType.LISTENER else CANONICAL_NAME for kind in ResourceType}


def measure(*, quick: bool) -> Iterator[Figure]:
    """The 50th and 99th percentile over all changes, kilobytes a stream, and CPU of both sides a stream and change."""
    streams, changes = (QUICK_STREAMS, QUICK_CHANGES) if quick else (STREAMS, CHANGES)
    _allow_files(streams + SPARE_FILES)
    with mesh([1]) as running:
        control_plane = running.control_plane
        before = control_plane.resident_kilobytes()
        with process("-m", "bench.streams", running.address, str(streams)) as clients:
            clients.line()
            delays = []
            spent, taken = control_plane.cpu_seconds(), clients.cpu_seconds()
            for number in range(changes):
                time.sleep(0.1)
                begun = time.monotonic()
                running.write([2 + number % 2])
                delays.append((float(clients.line()) - begun) * 1e3)
            spent, taken = control_plane.cpu_seconds() - spent, clients.cpu_seconds() - taken
            grown = control_plane.resident_kilobytes() - before
    what = f"endpoint change to the last of {streams:,} ADS streams"
    yield Figure(f"{what}, p50", middle(delays), "ms")
    yield Figure(f"{what}, p99", percentile(delays, 0.99), "ms", Goal("at most", 150))
    yield Figure("control plane memory, each stream", grown / streams, "KB", Goal("at most", 60))
    yield Figure("control plane CPU, each stream and change", spent / changes / streams * 1e6, "us")
    yield Figure("its clients' CPU, each stream and change", taken / changes / streams * 1e6, "us")


def _allow_files(number: int) -> None:
    """Let the processes that are started from here open so many files, where the machine does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))


class Clients:
    """All streams of the client process. Prints when the last one has its resources, and after it each new endpoint."""

    def __init__(self, address: str, number: int) -> None:
        self._address = address
        self._number = number
        self._connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._received = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._number):
                tasks.create_task(self._follow(f"{NAMESPACE}/client/{number}"))

    async def _follow(self, node: str) -> None:
        options = (*load.OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(self._address, options) as channel:
            stream: Any = channel.stream_stream(
                METHOD, discovery_pb2.DiscoveryRequest.SerializeToString, discovery_pb2.DiscoveryResponse.FromString
            )()
            async with self._connecting:
                for kind in ResourceType:
                    await stream.write(_request(kind.value, node=base_pb2.Node(id=node, cluster="client")))
                    await stream.write(_acknowledgement(await stream.read()))
            self._count()
            while (answer := await stream.read()) is not grpc.aio.EOF:
                self._count()
                await stream.write(_acknowledgement(answer))

    def _count(self) -> None:
        self._received += 1
        if self._received == self._number:
            # A walk over all of their objects takes 24 ms, which no control plane is to blame for.
            garbage.settle()
        if self._received % self._number == 0:
            print(time.monotonic(), flush=True)


def _request(kind: str, **fields: Any) -> discovery_pb2.DiscoveryRequest:
    return discovery_pb2.DiscoveryRequest(type_url=kind, resource_names=[NAMES[kind]], **fields)


def _acknowledgement(answer: discovery_pb2.DiscoveryResponse) -> discovery_pb2.DiscoveryRequest:
    return _request(answer.type_url, version_info=answer.version_info, response_nonce=answer.nonce)


if __name__ == "__main__":
    uvloop.run(Clients(sys.argv[1], int(sys.argv[2])).run())
