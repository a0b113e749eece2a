"""Calls to peers: what they carry, how long they may take, and what their failures become."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.runtime import access, context, errors, telemetry
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.peers import Peers, WorkloadToken
from pyairtable_mesh.runtime.retries import RetryPolicy
from tests.contract.runtime.serving import BASE, check_request, served

ROWS = {"CheckPermission": access.public(), "BatchCheckPermissions": access.public()}
WRITES = {**ROWS, "WriteRelationships": access.public(), "LookupResources": access.public()}


class Peer(permission_pb2_grpc.PermissionServiceServicer):
    """Answers, or raises what it is given; notes what reached it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[RequestContext] = []
        self.requests: list[Message] = []

    async def CheckPermission(self, request: Any, rpc: Any) -> Any:
        self.seen.append(context.current())
        if self.error is not None:
            raise self.error
        return pb.CheckPermissionResponse()

    async def BatchCheckPermissions(self, request: Any, rpc: Any) -> Any:
        if self.error is not None:
            raise self.error
        decision = pb.Decision(result=pb.Decision.RESULT_ALLOWED)
        results = [pb.CheckResult(decision=decision if item.permission == "read" else None) for item in request.items]
        return pb.BatchCheckPermissionsResponse(results=results)


class WritingPeer(Peer):
    async def WriteRelationships(self, request: Any, rpc: Any) -> Any:
        self.requests.append(request)
        return pb.WriteRelationshipsResponse()

    async def LookupResources(self, request: Any, rpc: Any) -> Any:
        yield pb.LookupResourcesResponse(cursor="1")
        raise errors.OutOfRange("gone", reason="REVISION_EXPIRED")


@pytest.fixture
def inside() -> Iterator[RequestContext]:
    """The context of an RPC that is being served."""
    caller = RequestContext("/test", correlation_id="order-7", authorization="Bearer alice")
    context.enter(caller)
    yield caller
    context._current.set(None)


@asynccontextmanager
async def peer(servicer: Peer, token: str = "") -> AsyncIterator[permission_pb2_grpc.PermissionServiceStub]:
    rows = WRITES if isinstance(servicer, WritingPeer) else ROWS
    async with served(servicer, rows) as serving:
        peers = Peers(
            control_plane="",
            addresses={"permission": serving.address},
            own_token=WorkloadToken(token),
            telemetry=serving.metrics,
            retries=RetryPolicy(),
            max_message_bytes=1 << 20,
        )
        yield peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission")
        await peers.close()


async def test_a_call_carries_what_the_served_rpc_has(inside: RequestContext) -> None:
    inside.consistency_token = "seen"
    servicer = Peer()
    async with peer(servicer) as stub:
        await stub.CheckPermission(check_request())
    (seen,) = servicer.seen
    assert (seen.correlation_id, seen.authorization, seen.consistency_token) == ("order-7", "Bearer alice", "seen")


async def test_outside_of_an_rpc_a_process_speaks_for_itself(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    servicer = Peer()
    async with peer(servicer, str(tmp_path / "token")) as stub:
        await stub.CheckPermission(check_request())
    assert servicer.seen[0].authorization == "Bearer abc"


async def test_a_deadline_is_passed_on_and_shortened(inside: RequestContext, monkeypatch: pytest.MonkeyPatch) -> None:
    servicer = Peer()
    monkeypatch.setattr(RequestContext, "remaining", lambda _: 2.0)
    async with peer(servicer) as stub:
        await stub.CheckPermission(check_request(), timeout=60)
    monkeypatch.undo()
    assert 1 < servicer.seen[0].remaining() < 2


async def test_no_call_is_made_when_no_time_is_left(inside: RequestContext) -> None:
    inside.deadline = 0.0
    servicer = Peer()
    async with peer(servicer) as stub:
        with pytest.raises(errors.DeadlineExceeded):
            await stub.CheckPermission(check_request())
    assert servicer.seen == []


FAILURES = [
    errors.InvalidArgument.of_field("resource", "is odd"),
    errors.NotFound("base", "base:x", reason="BASE_GONE"),
    errors.AlreadyExists("role", "roles/x"),
    errors.PermissionDenied("no", metadata={"permission": "read"}),
    errors.FailedPrecondition("in use", [errors.PreconditionViolation("ROLE", "x", "bound")], reason="ROLE_IN_USE"),
    errors.ResourceExhausted("too deep", retry_after=timedelta(seconds=2)),
    errors.Aborted("raced"),
    errors.OutOfRange("gone", reason="REVISION_EXPIRED"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_a_peers_error_arrives_as_it_was_raised(error: errors.MeshError) -> None:
    async with peer(Peer(error)) as stub:
        with pytest.raises(type(error)) as caught:
            await stub.CheckPermission(check_request())
    got = caught.value
    assert (got.message, got.reason, got.metadata) == (error.message, error.reason, error.metadata)
    for name in ("violations", "resource_name", "retry_after"):
        assert getattr(got, name, None) == getattr(error, name, None)


async def test_a_peers_fault_keeps_its_text_to_itself() -> None:
    async with peer(Peer(ValueError("secret"))) as stub:
        with pytest.raises(errors.MeshError) as caught:
            await stub.CheckPermission(check_request())
    assert "secret" not in str(caught.value)


async def test_a_peer_that_cannot_be_reached_is_named() -> None:
    observer = telemetry.start("test", namespace="default", instance="1", sample_ratio=0)
    peers = Peers(
        control_plane="",
        addresses={"permission": "127.0.0.1:1"},
        own_token=WorkloadToken(""),
        telemetry=observer,
        retries=RetryPolicy(attempts=2),
        max_message_bytes=1 << 20,
    )
    stub = peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission")
    with pytest.raises(errors.Unavailable) as caught:
        await stub.CheckPermission(check_request())
    assert (caught.value.reason, caught.value.metadata) == ("DEPENDENCY_UNAVAILABLE", {"service": "permission"})
    await peers.close()
    observer.close()


async def test_a_change_gets_a_request_id_of_its_own_for_each_call() -> None:
    servicer = WritingPeer()
    relationship = pb.Relationship(resource=f"base:{BASE}", relation="workspace", subject="workspace:wsp" + "0" * 26)
    update = pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)
    request = pb.WriteRelationshipsRequest(updates=[update])
    async with peer(servicer) as stub:
        await stub.WriteRelationships(request)
        await stub.WriteRelationships(request)
    ids = {received.request_id for received in servicer.requests}  # type: ignore[attr-defined]
    assert len(ids) == 2
    assert request.request_id == ""


@pytest.mark.usefixtures("inside")
async def test_a_repeated_request_repeats_what_it_asks_of_peers() -> None:
    servicer = WritingPeer()
    relationship = pb.Relationship(resource=f"base:{BASE}", relation="workspace", subject="workspace:wsp" + "0" * 26)
    update = pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_TOUCH, relationship=relationship)
    request, other = pb.WriteRelationshipsRequest(updates=[update]), pb.WriteRelationshipsRequest(updates=[update] * 2)
    first = RequestContext("/a.v1.Service/Make", request_id="r1")
    sent: list[str] = []
    async with peer(servicer) as stub:
        for call in (first, first, replace(first, method="/a.v1.Service/Unmake"), replace(first, request_id="r2")):
            context.enter(call)
            for each in (request, other):
                await stub.WriteRelationships(each)
                sent.append(servicer.requests[-1].request_id)  # type: ignore[attr-defined]
    assert sent[:2] == sent[2:4]
    assert len(set(sent)) == 6


async def test_a_stream_gives_what_came_and_then_the_error() -> None:
    async with peer(WritingPeer()) as stub:
        answers = stub.LookupResources(pb.LookupResourcesRequest(resource_type="base", permission="read"))
        assert (await anext(aiter(answers))).cursor == "1"
        with pytest.raises(errors.OutOfRange):
            await anext(aiter(answers))


async def test_the_authorizer_fails_closed(inside: RequestContext) -> None:
    questions = [(f"base:{BASE}", "read"), (f"base:{BASE}", "update")]
    async with peer(Peer()) as stub:
        assert await PeerAuthorizer(stub).check(inside, questions) == [True, False]
    async with peer(Peer(errors.Unavailable("away"))) as stub:
        with pytest.raises(errors.Unavailable):
            await PeerAuthorizer(stub).check(inside, questions)
