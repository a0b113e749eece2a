"""A bare server that answers every call with its own port: ``python -m bench.echo``. Prints the port."""

import grpc
import uvloop

METHOD = "/bench.Echo/Echo"


async def serve() -> None:
    answer = b""

    async def echo(_request: bytes, _context: object) -> bytes:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    answer = str(port).encode()
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve())
