"""Calls the greeter of README.md over the mesh, as a program of another team would.

    python greeter_client.py TOKEN NAME…

Prints a JSON object for each name: the greeting, or the status and the fields that break a rule.
"""

import asyncio
import json
import sys
from typing import Any

import grpc
from google.rpc import error_details_pb2
from greeter.v1 import greeter_pb2, greeter_pb2_grpc
from grpc_status import rpc_status


async def main(token: str, *names: str) -> None:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    async with grpc.aio.insecure_channel("xds:///greeter") as channel:
        stub = greeter_pb2_grpc.GreeterServiceStub(channel)
        for name in names:
            found: dict[str, Any]
            try:
                answer = await stub.Greet(greeter_pb2.GreetRequest(name=name), metadata=metadata, timeout=30)
                found = {"greeting": answer.greeting}
            except grpc.aio.AioRpcError as error:
                found = {"status": error.code().name, "fields": fields(error)}
            sys.stdout.write(f"{json.dumps(found)}\n")


def fields(error: Any) -> list[str]:
    found = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    return [each.field for detail in found.details if detail.Unpack(bad) for each in bad.field_violations]


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
