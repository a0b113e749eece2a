"""A bare server that answers every call, and every message of a stream, with its own port: ``python -m bench.echo``.

Prints the port.
"""

from collections.abc import AsyncIterator

import grpc
import uvloop

METHOD = "/bench.Echo/Echo"
STREAM = "/bench.Echo/Stream"


async def serve() -> None:
    answer = b""

    async def echo(_request: bytes, _context: object) -> bytes:
        return answer

    async def echo_each(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Stream": grpc.stream_stream_rpc_method_handler(echo_each),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    answer = str(port).encode()
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve())
