"""All four kinds of calls, errors with details, and reflection, against fake servicers on real servers."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_mesh.meshctl import output, payload, reflection
from pyairtable_mesh.meshctl.descriptors import Target, choose
from pyairtable_mesh.meshctl.failures import DETAILS_KEY, CallError, to_data
from pyairtable_mesh.meshctl.problems import Problem
from tests.unit.meshctl import acme
from tests.unit.meshctl.servers import connected, servicer

METHODS: Any = permission_pb2.DESCRIPTOR.services_by_name["PermissionService"].methods_by_name
REFUSED = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="the request breaks 1 rule")


class FakePermission(permission_pb2_grpc.PermissionServiceServicer):
    """Echoes what it can of a request; CheckPermission refuses with details."""

    async def CheckPermission(self, request: Any, context: Any) -> Any:
        status = status_pb2.Status()
        status.CopyFrom(REFUSED)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="VALIDATION_FAILED", domain="pyairtable.io"))
        violation = error_details_pb2.BadRequest.FieldViolation(field="resource", description="is no reference")
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        trailing = ((DETAILS_KEY, status.SerializeToString()),)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, status.message, trailing)

    async def GetRole(self, request: Any, context: Any) -> Any:
        return permission_pb2.Role(name=request.name)

    async def LookupResources(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(request.limit):
            yield permission_pb2.LookupResourcesResponse(cursor=str(number))

    async def StreamCheckPermissions(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            yield permission_pb2.StreamCheckPermissionsResponse(key=request.key)

    async def ImportRelationships(self, request_iterator: Any, context: Any) -> Any:
        return permission_pb2.ImportRelationshipsResponse(imported_count=len([one async for one in request_iterator]))


fake_permission = servicer(permission_pb2_grpc.add_PermissionServiceServicer_to_server, FakePermission())


@pytest.mark.parametrize(
    ("method", "body", "field", "values"),
    [
        ("GetRole", '{"name": "roles/owner"}', "name", ["roles/owner"]),
        ("LookupResources", '{"limit": 3}', "cursor", ["0", "1", "2"]),
        ("LookupResources", "", "cursor", []),
        ("StreamCheckPermissions", '{"key": 1} {"key": "2"}', "key", [1, 2]),
        ("ImportRelationships", "{}\n{}\n", "imported_count", [2]),
        ("ImportRelationships", "", "imported_count", [0]),
    ],
)
async def test_each_kind_of_call(method: str, body: str, field: str, values: list[object]) -> None:
    descriptor = METHODS[method]
    async with connected(fake_permission) as connection:
        responses = connection.call(descriptor, payload.requests(descriptor, body), seconds=5)
        assert [getattr(response, field) async for response in responses] == values


async def test_a_failure_carries_what_the_server_has_told() -> None:
    async with connected(fake_permission) as connection:
        with pytest.raises(CallError) as told:
            async for _ in connection.call(
                METHODS["CheckPermission"], payload.requests(METHODS["CheckPermission"], "")
            ):
                pass
    error = told.value
    assert (error.code, error.reason, error.exit_code) == ("INVALID_ARGUMENT", "VALIDATION_FAILED", 67)
    assert error.message == "INVALID_ARGUMENT: the request breaks 1 rule"
    assert error.details == ("reason: VALIDATION_FAILED (pyairtable.io)", "field resource: is no reference")
    assert [detail["@type"].rpartition(".")[2] for detail in to_data(error.status)["details"]] == [
        "ErrorInfo",
        "BadRequest",
    ]


async def test_a_method_of_an_unknown_service_is_found_by_reflection_and_called() -> None:
    async with connected(acme.add_to) as connection:
        services = await reflection.services(connection, "there")
        method = choose(Target.parse(["invoices", "GetInvoice"]), services)
        responses = connection.call(method, payload.requests(method, '{"name": "invoices/7"}'), seconds=5)
        shown = [output.to_data(response) async for response in responses]
    assert [service.full_name for service in services] == [acme.SERVICE]
    assert shown == [{"name": "invoices/7", "dueTime": "1970-01-02T00:00:00Z"}]


async def test_a_service_that_the_server_does_not_have_is_told() -> None:
    async with connected(acme.add_to) as connection:
        with pytest.raises(Problem, match=r"there does not describe acme\.orders\.v1\.OrderService"):
            await reflection.services(connection, "there", "acme.orders.v1.OrderService")


async def test_a_server_without_reflection_is_told() -> None:
    async with connected(fake_permission) as connection:
        with pytest.raises(Problem, match="it has no reflection"):
            await reflection.services(connection, "there")
