"""What every RPC gets from the stack, whatever its kind."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import access, context, errors
from pyairtable_mesh.runtime.database import Database
from tests.contract.runtime.answering import ROWS, SECRET, Servicer, allowed, failure, status_of
from tests.contract.runtime.permission_server import until
from tests.contract.runtime.serving import ALICE, BASE, SERVICE, TENANT, Served, check_request, served

RAISED = [
    (
        errors.InvalidArgument.of_field("resource", "is odd"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "VALIDATION_FAILED",
        "BadRequest",
    ),
    (errors.NotFound("base", "base:x"), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "ResourceInfo"),
    (errors.AlreadyExists("role", "roles/x"), grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", "ResourceInfo"),
    (errors.Aborted("raced"), grpc.StatusCode.ABORTED, "ABORTED", "ErrorInfo"),
    (
        errors.FailedPrecondition(
            "in use", [errors.PreconditionViolation("USE", "roles/x", "is bound")], reason="ROLE_IN_USE"
        ),
        grpc.StatusCode.FAILED_PRECONDITION,
        "ROLE_IN_USE",
        "PreconditionFailure",
    ),
    (errors.ResourceExhausted("too deep"), grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED", "QuotaFailure"),
    (errors.OutOfRange("expired"), grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE", "ErrorInfo"),
    (errors.Unavailable("away"), grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "ErrorInfo"),
    (errors.Unimplemented("later"), grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "ErrorInfo"),
    (errors.MeshError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL", "ErrorInfo"),
    (ValueError(SECRET), grpc.StatusCode.INTERNAL, "INTERNAL", "ErrorInfo"),
]


@pytest.mark.parametrize(("error", "code", "reason", "detail"), RAISED, ids=lambda value: type(value).__name__)
async def test_what_is_raised_becomes_one_status(error: Exception, code: Any, reason: str, detail: str) -> None:
    async def fail(_request: Any) -> None:
        raise error

    async with served(Servicer(fail), ROWS) as serving:
        got_code, got_reason, details = await failure(allowed(serving))
    assert (got_code, got_reason) == (code, reason)
    assert detail in details


async def test_a_stream_that_fails_gives_what_it_had_and_then_the_status() -> None:
    async with served(Servicer(), ROWS) as serving:
        request = pb.LookupResourcesRequest(resource_type="base", permission="fail")
        call = serving.stub.LookupResources(request, metadata=serving.as_alice())
        seen = [await call.read() for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert [found.resource for answer in seen for found in answer.resources] == ["base:0", "base:1", "base:2"]
    assert status_of(caught.value)[:2] == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_EXPIRED")


async def test_request_streams_reach_the_servicer_whole_and_each_message_is_validated() -> None:
    good = pb.Relationship(resource=f"base:{BASE}", relation="workspace", subject="workspace:wsp" + "0" * 26)
    async with served(Servicer(), ROWS) as serving:
        token = (("authorization", "Bearer workload:importer"),)
        requests = [pb.ImportRelationshipsRequest(relationships=[good, good]) for _ in range(3)]
        answer = await serving.stub.ImportRelationships(iter(requests), metadata=token)
        assert answer.imported_count == 6
        requests.append(pb.ImportRelationshipsRequest(relationships=[pb.Relationship(resource="nonsense")]))
        code, _, details = await failure(serving.stub.ImportRelationships(iter(requests), metadata=token))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "relationships[0].resource" in {row.field for row in details["BadRequest"].field_violations}


async def test_both_directions_of_a_bidirectional_stream_flow() -> None:
    async with served(Servicer(), ROWS) as serving:
        item = pb.CheckItem(resource=f"base:{BASE}", permission="read")
        call = serving.stub.StreamCheckPermissions(
            iter([pb.StreamCheckPermissionsRequest(key=key, item=item) for key in range(5)])
        )
        assert [answer.key async for answer in call] == list(range(5))


@pytest.mark.parametrize(
    ("metadata", "reason"), [((), "TOKEN_MISSING"), ((("authorization", "Bearer mallory"),), "TOKEN_INVALID")]
)
async def test_nobody_gets_in_without_a_token_that_holds(metadata: Any, reason: str) -> None:
    async with served(Servicer(), ROWS) as serving:
        answer = await failure(serving.stub.CheckPermission(check_request(), metadata=metadata))
    assert answer[:2] == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_the_caller_is_known_to_the_servicer() -> None:
    servicer = Servicer()
    async with served(servicer, ROWS) as serving:
        serving.authorizer.allowed.add((f"base:{BASE}", "read"))
        metadata = serving.as_alice(x_correlation_id="order-7")
        await serving.stub.CheckPermission(check_request(), metadata=metadata, timeout=5)
    seen = servicer.seen[0]
    assert (seen.tenant_id, seen.actor.subject, seen.correlation_id) == (TENANT, f"user:{ALICE}", "order-7")
    assert 4 < seen.remaining() <= 5.02  # gRPC rounds what is left up to 10 ms


@pytest.mark.parametrize("hostile", ["", "x" * 200, "two words"])
async def test_a_correlation_id_that_is_none_is_replaced(hostile: str) -> None:
    servicer = Servicer()
    async with served(servicer, ROWS) as serving:
        serving.authorizer.allowed.add((f"base:{BASE}", "read"))
        await serving.stub.CheckPermission(check_request(), metadata=serving.as_alice(x_correlation_id=hostile))
    assert len(servicer.seen[0].correlation_id) == 32


async def test_a_denial_hides_what_the_caller_may_not_see() -> None:
    rows = {**ROWS, "CheckPermission": access.on("resource", "update")}
    async with served(Servicer(), rows) as serving:
        call = serving.stub.CheckPermission
        hidden = await failure(call(check_request(), metadata=serving.as_alice()))
        serving.authorizer.allowed.add((f"base:{BASE}", "read"))
        refused = await failure(call(check_request(), metadata=serving.as_alice()))
    assert hidden[0] is grpc.StatusCode.NOT_FOUND
    assert refused[0] is grpc.StatusCode.PERMISSION_DENIED
    assert refused[2]["ErrorInfo"].metadata["permission"] == "update"


async def test_what_hangs_on_a_condition_is_denied_and_the_denial_says_so() -> None:
    rows = {**ROWS, "CheckPermission": access.on("resource", "update")}
    async with served(Servicer(), rows) as serving:
        serving.authorizer.allowed.add((f"base:{BASE}", "read"))
        serving.authorizer.undecided[f"base:{BASE}", "update"] = frozenset({"address"})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.CheckPermission(check_request(), metadata=serving.as_alice())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "under a condition only, on address" in str(caught.value.details())


async def test_who_may_see_it_under_a_condition_only_does_not_hear_of_it() -> None:
    rows = {**ROWS, "CheckPermission": access.on("resource", "update")}
    async with served(Servicer(), rows) as serving:
        serving.authorizer.undecided[f"base:{BASE}", "read"] = frozenset({"address"})
        code, _, _ = await failure(serving.stub.CheckPermission(check_request(), metadata=serving.as_alice()))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_a_malformed_resource_is_the_callers_mistake_and_never_asked_about() -> None:
    async with served(Servicer(), ROWS) as serving:
        request = check_request(resource="no colon")
        answer = await failure(serving.stub.CheckPermission(request, metadata=serving.as_alice()))
        assert serving.authorizer.asked == []
    assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert answer[2]["BadRequest"].field_violations[0].field == "resource"


METHOD_KINDS = ["CheckPermission", "LookupResources", "ImportRelationships", "StreamCheckPermissions"]


@pytest.mark.parametrize("method", METHOD_KINDS)
async def test_bytes_that_are_no_message_are_the_callers_mistake(method: str) -> None:
    rows = {**ROWS, "ImportRelationships": access.authenticated()}
    async with served(Servicer(), rows) as serving:
        answer = await failure(_raw(serving, method, b"\xff\xff\xff"))
    assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert [row.reason for row in answer[2]["BadRequest"].field_violations] == ["message.encoding"]


async def _raw(serving: Served, method: str, data: bytes) -> Any:
    channel: Any = serving.channel
    path, metadata = f"/{SERVICE}/{method}", serving.as_alice()
    if method in {"CheckPermission", "LookupResources"}:
        return await anext(aiter(channel.unary_stream(path)(data, metadata=metadata)))
    return await anext(aiter(channel.stream_stream(path)(iter([data]), metadata=metadata)))


async def test_an_answer_of_another_type_says_nothing_about_itself() -> None:
    class Careless(Servicer):
        async def CheckPermission(self, request: Any, context_: Any) -> Any:
            return None

    async with served(Careless(), ROWS) as serving:
        answer = await failure(allowed(serving))
    assert answer[0] is grpc.StatusCode.INTERNAL


async def test_an_error_is_never_too_large_to_arrive() -> None:
    async def fail(_request: Any) -> None:
        rows = [errors.FieldViolation("ü" * 5000, "ü" * 5000, "rule")] * 100
        raise errors.InvalidArgument("ü" * 50_000, rows, metadata={"value": "x" * 50_000})

    async with served(Servicer(fail), ROWS) as serving:
        answer = await failure(allowed(serving))
    assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert answer[2]["BadRequest"].field_violations


@pytest.mark.parametrize("messages", [[], [pb.ImportRelationshipsRequest()]], ids=["empty stream", "empty field"])
async def test_a_row_about_resources_is_closed_to_a_request_that_names_none(messages: list[Any]) -> None:
    rows = {**ROWS, "ImportRelationships": access.each("relationships[].resource", "update")}
    async with served(Servicer(), rows) as serving:
        answer = await failure(serving.stub.ImportRelationships(iter(messages), metadata=serving.as_alice()))
    assert answer[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert answer[2]["BadRequest"].field_violations[0].field == "relationships[].resource"


async def test_workload_rows_take_the_named_service_accounts_alone() -> None:
    async with served(Servicer(), ROWS) as serving:
        call = serving.stub.ImportRelationships
        for token in ("alice", "workload:other"):
            answer = await failure(call(iter([]), metadata=(("authorization", f"Bearer {token}"),)))
            assert answer[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_alternatives_are_tried_in_order() -> None:
    rows = {**ROWS, "CheckPermission": access.on("resource", "update") | access.workload("tenant")}
    async with served(Servicer(), rows) as serving:
        await serving.stub.CheckPermission(check_request(), metadata=(("authorization", "Bearer workload:tenant"),))
        assert serving.authorizer.asked == []


async def test_every_broken_rule_is_named() -> None:
    rows = {**ROWS, "CheckPermission": access.authenticated()}
    async with served(Servicer(), rows) as serving:
        request = check_request(resource="nonsense", permission="no such!")
        answer = await failure(serving.stub.CheckPermission(request, metadata=serving.as_alice()))
    violations = answer[2]["BadRequest"].field_violations
    assert {(row.field, row.reason) for row in violations} == {
        ("resource", "string.pattern"),
        ("permission", "string.pattern"),
    }


async def test_a_call_without_a_deadline_gets_one() -> None:
    async def forever(_request: Any) -> None:
        await asyncio.Event().wait()

    async with served(Servicer(forever), ROWS, settings={"default_deadline_seconds": 0.05}) as serving:
        answer = await failure(allowed(serving))
    assert answer[0] is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_timeout_of_the_servicers_own_is_not_taken_for_the_deadline() -> None:
    async def fail(_request: Any) -> None:
        raise TimeoutError(SECRET)

    async with served(Servicer(fail), ROWS) as serving:
        answer = await failure(allowed(serving))
    assert answer[0] is grpc.StatusCode.INTERNAL


async def test_methods_of_later_releases_answer_unimplemented() -> None:
    async with served(Servicer(), ROWS) as serving:
        answer = await failure(serving.stub.ListRoles(pb.ListRolesRequest()))
        stream = serving.stub.LookupSubjects(pb.LookupSubjectsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert answer[:2] == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert answer[2]["ErrorInfo"].metadata["method"] == "pyairtable.permission.v1.PermissionService/ListRoles"
    assert status_of(caught.value)[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({k: v for k, v in ROWS.items() if k != "CheckPermission"}, "no row in the access table"),
        ({**ROWS, "ListRoles": access.public()}, "implements no ListRoles"),
    ],
)
async def test_servicer_and_access_table_must_fit(rows: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        async with served(Servicer(), rows):
            pass


@pytest.mark.parametrize("entered", [Database.transaction, Database.read], ids=["changes", "reads"])
async def test_a_request_that_was_answered_before_is_not_done_again(database: Database, entered: Any) -> None:
    class Writer(permission_pb2_grpc.PermissionServiceServicer):
        async def WriteRelationships(self, request: Any, context_: Any) -> Any:
            async with entered(database, context.current()):
                pass
            answer = pb.WriteRelationshipsResponse(consistency_token=str(uuid.uuid4()))
            async with database.transaction(context.current()) as transaction:
                transaction.remember(answer.SerializeToString())
            return answer

    rows = {"WriteRelationships": access.authenticated()}
    relationship = pb.Relationship(resource="group:grp" + "0" * 26, relation="member", subject=f"user:{ALICE}")
    update = pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)
    request = pb.WriteRelationshipsRequest(updates=[update], request_id="6b1f7f4e-7a41-4d7b-9f0e-0d5f6f1f2a11")
    async with served(Writer(), rows) as serving:
        answers = [await serving.stub.WriteRelationships(request, metadata=serving.as_alice()) for _ in range(2)]
        request.updates[0].operation = pb.RelationshipUpdate.OPERATION_DELETE
        refused = await failure(serving.stub.WriteRelationships(request, metadata=serving.as_alice()))
    assert answers[0] == answers[1]
    assert refused[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_who_lost_the_permission_gets_no_recorded_answer_either() -> None:
    class Writer(permission_pb2_grpc.PermissionServiceServicer):
        async def CreateRole(self, request: Any, context_: Any) -> Any:
            raise AssertionError("done")

    rows = {"CreateRole": access.tenant("manage_access")}
    request = pb.CreateRoleRequest(
        role=pb.Role(display_name="x", permissions=["base.read"]), request_id="6b1f7f4e-7a41-4d7b-9f0e-0d5f6f1f2a11"
    )
    async with served(Writer(), rows) as serving:
        refused = await failure(serving.stub.CreateRole(request, metadata=serving.as_alice()))
    assert refused[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_spans_take_the_callers_trace_and_metrics_their_code() -> None:
    exporter = InMemorySpanExporter()
    observe = lambda telemetry: telemetry.traces.add_span_processor(SimpleSpanProcessor(exporter))  # noqa: E731
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with served(Servicer(), ROWS, observe=observe) as serving:
        await failure(serving.stub.CheckPermission(check_request(), metadata=serving.as_alice(traceparent=parent)))
        # The caller may have its answer before the span has ended.
        await until("the span", exporter.get_finished_spans)
    spans = exporter.get_finished_spans()
    assert len(spans) == 1
    assert spans[0].name == "pyairtable.permission.v1.PermissionService/CheckPermission"
    assert f"{spans[0].context.trace_id:032x}" == parent[3:35]
    assert spans[0].attributes is not None
    assert spans[0].attributes["rpc.response.status_code"] == "NOT_FOUND"
