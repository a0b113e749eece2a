"""Calls GetUser over ``xds:///user`` until its standard input closes, then prints what happened as JSON.

Arguments: the token, the user's resource name, and the seconds that each worker pauses between calls (0 where it is
left out). The bootstrap comes by GRPC_XDS_BOOTSTRAP_CONFIG. Prints a line as soon as the first call was answered.
"""

import asyncio
import json
import sys

import grpc

from pyairtable.user.v1 import user_pb2, user_pb2_grpc

WORKERS = 8


async def main(token: str, name: str, pause: str = "0") -> None:
    answered, failures = 0, list[str]()
    first, stopping = asyncio.Event(), asyncio.Event()

    async def work(stub: user_pb2_grpc.UserServiceStub) -> None:
        nonlocal answered
        while not stopping.is_set():
            try:
                await stub.GetUser(
                    user_pb2.GetUserRequest(name=name), metadata=(("authorization", f"Bearer {token}"),), timeout=10
                )
            except grpc.aio.AioRpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
            answered += 1
            first.set()
            await asyncio.sleep(float(pause))

    async with grpc.aio.insecure_channel("xds:///user") as channel, asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(work(user_pb2_grpc.UserServiceStub(channel)))
        await first.wait()
        sys.stdout.write("\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        stopping.set()
    sys.stdout.write(json.dumps({"calls": answered, "failures": failures}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
