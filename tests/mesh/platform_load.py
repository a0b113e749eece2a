"""Calls GetUser over ``xds:///user`` until its standard input closes, then prints what happened as JSON.

Arguments: the token, the user's resource name, the seconds that each worker pauses between calls, and how many calls
there are at least, however soon the input closes (both 0 where they are left out). For a resource such as
``tenant:ten…`` in the name's place it asks ``xds:///permission`` whether that may be read. The bootstrap comes by
GRPC_XDS_BOOTSTRAP_CONFIG. Prints a line as soon as the first call was answered.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable

import grpc

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc

WORKERS = 8


async def main(token: str, name: str, pause: str = "0", least: str = "0") -> None:
    answered, failures = 0, list[str]()
    first, stopping = asyncio.Event(), asyncio.Event()

    def get(channel: grpc.aio.Channel) -> Callable[..., Awaitable[object]]:
        request = user_pb2.GetUserRequest(name=name)
        return functools.partial(user_pb2_grpc.UserServiceStub(channel).GetUser, request)

    def check(channel: grpc.aio.Channel) -> Callable[..., Awaitable[object]]:
        request = permission_pb2.CheckPermissionRequest(resource=name, permission="read")
        return functools.partial(permission_pb2_grpc.PermissionServiceStub(channel).CheckPermission, request)

    async def work(call: Callable[..., Awaitable[object]]) -> None:
        nonlocal answered
        while not stopping.is_set() or answered < int(least):
            try:
                await call(metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            except grpc.aio.AioRpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
            answered += 1
            first.set()
            await asyncio.sleep(float(pause))

    target, made = ("xds:///user", get) if name.startswith("users/") else ("xds:///permission", check)
    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as tasks:
        for _ in range(WORKERS):
            tasks.create_task(work(made(channel)))
        await first.wait()
        sys.stdout.write("\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        stopping.set()
    sys.stdout.write(json.dumps({"calls": answered, "failures": failures}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
