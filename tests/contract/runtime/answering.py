"""A servicer with one method of each kind, and what comes back from it."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import access, context, errors
from tests.contract.runtime.serving import BASE, Served, check_request

SECRET = "the text of an exception"


class Servicer(permission_pb2_grpc.PermissionServiceServicer):
    """One method of each kind; what CheckPermission does is set by the test."""

    def __init__(self, check: Any = None) -> None:
        self._check = check
        self.seen: list[context.RequestContext] = []

    async def CheckPermission(self, request: Any, context_: Any) -> Any:
        self.seen.append(context.current())
        if self._check is not None:
            await self._check(request)
        return pb.CheckPermissionResponse(decision=pb.Decision(result=pb.Decision.RESULT_ALLOWED))

    async def LookupResources(self, request: Any, context_: Any) -> Any:
        for index in range(3):
            yield pb.LookupResourcesResponse(resources=[pb.FoundResource(resource=f"base:{index}")])
        if request.permission == "wait":
            await asyncio.Event().wait()
        if request.permission == "fail":
            raise errors.OutOfRange("gone", reason="REVISION_EXPIRED")

    async def ImportRelationships(self, requests: Any, context_: Any) -> Any:
        count = 0
        async for request in requests:
            count += len(request.relationships)
        return pb.ImportRelationshipsResponse(imported_count=count)

    async def StreamCheckPermissions(self, requests: Any, context_: Any) -> Any:
        async for request in requests:
            yield pb.StreamCheckPermissionsResponse(key=request.key)


ROWS = {
    "CheckPermission": access.on("resource", "read"),
    "LookupResources": access.authenticated(),
    "ImportRelationships": access.workload("importer"),
    "StreamCheckPermissions": access.public(),
}


def status_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """Code, reason, and the details by the names of their types."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for detail in status.details:
        name = detail.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        detail.Unpack(message)
        found[name] = message
    assert found["ErrorInfo"].domain == "pyairtable.io"
    return error.code(), found["ErrorInfo"].reason, found


async def failure(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert SECRET not in str(caught.value)
    return status_of(caught.value)


async def allowed(serving: Served, **fields: Any) -> Any:
    serving.authorizer.allowed.add((f"base:{BASE}", "read"))
    return await serving.stub.CheckPermission(check_request(**fields), metadata=serving.as_alice())
