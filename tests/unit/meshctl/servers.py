"""Real gRPC servers in the test's own process, with fake servicers behind them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from pyairtable_mesh.meshctl import rpc

Add = Callable[[grpc.aio.Server], object]


@asynccontextmanager
async def serving(*additions: Add) -> AsyncIterator[str]:
    """A server on a free port of the loopback; its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for add in additions:
        add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(*additions: Add) -> AsyncIterator[rpc.Connection]:
    async with serving(*additions) as address, rpc.connect(address) as connection:
        yield connection


def servicer(add: Callable[[Any, grpc.aio.Server], object], fake: object) -> Add:
    return lambda server: add(fake, server)
