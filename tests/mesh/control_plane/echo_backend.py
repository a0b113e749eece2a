"""A server that answers every call with its own name: `python echo_backend.py <name> <delay in seconds>`.

Prints its port.
"""

import asyncio
import sys

import grpc

METHOD = "/test.Echo/Echo"


async def serve(name: str, delay: float) -> None:
    async def echo(_request: bytes, _context: object) -> bytes:
        await asyncio.sleep(delay)
        return name.encode()

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
