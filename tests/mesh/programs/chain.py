"""Two services in a row, for the test of what travels: `first` answers GetMe by asking `second` for CheckPermission.

    python chain.py first|second RECORD

`second` appends to RECORD what it knows about each call: a JSON object a line. PYAIRTABLE_* come from `join`.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable.user.v1 import user_pb2, user_pb2_grpc
from pyairtable_mesh import runtime
from pyairtable_mesh.runtime import access


class First(user_pb2_grpc.UserServiceServicer):
    def __init__(self, second: Any) -> None:
        self._second = second

    async def GetMe(self, request: user_pb2.GetMeRequest, context: Any) -> user_pb2.User:
        question = permission_pb2.CheckPermissionRequest(resource="base:any", permission="read")
        await self._second.CheckPermission(question)
        return user_pb2.User(display_name=runtime.current().actor.subject)


class Second(permission_pb2_grpc.PermissionServiceServicer):
    def __init__(self, record: Path) -> None:
        self._record = record

    async def CheckPermission(
        self, request: permission_pb2.CheckPermissionRequest, context: Any
    ) -> permission_pb2.CheckPermissionResponse:
        call = runtime.current()
        seen = {
            "correlation_id": call.correlation_id,
            "subject": call.actor.subject,
            "tenant": call.tenant_id,
            "trace_id": call.trace_id,
            "seconds_left": call.remaining(),
        }
        with self._record.open("a") as record:
            record.write(f"{json.dumps(seen)}\n")
        return permission_pb2.CheckPermissionResponse()


def first(given: Any) -> runtime.Parts:
    stub = given.peers.stub(permission_pb2_grpc.PermissionServiceStub, "second")
    return runtime.Parts(servicers=[(user_pb2_grpc.add_UserServiceServicer_to_server, First(stub))])


def second(_given: Any, record: Path) -> runtime.Parts:
    servicer = Second(record)
    return runtime.Parts(servicers=[(permission_pb2_grpc.add_PermissionServiceServicer_to_server, servicer)])


def service(name: str, record: Path) -> runtime.Service[runtime.Settings]:
    served, method = {
        "first": ("pyairtable.user.v1.UserService", "GetMe"),
        "second": ("pyairtable.permission.v1.PermissionService", "CheckPermission"),
    }[name]
    return runtime.Service(
        name=name,
        settings=runtime.Settings,
        build=first if name == "first" else partial(second, record=record),
        access={served: {method: access.authenticated()}},
    )


if __name__ == "__main__":
    wanted = service(sys.argv[1], Path(sys.argv[2]))
    del sys.argv[1:]  # `run` has words of its own
    runtime.run(wanted)
