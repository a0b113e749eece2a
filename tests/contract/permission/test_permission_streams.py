"""The streams of the permission service: lists, changes, replicas, exports and imports."""

from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import schema
from pyairtable_mesh.runtime.authorization import Circumstances, load_scoped, product
from pyairtable_mesh.runtime.replica.authorizer import claimed_revision
from tests.contract.permission.requests import (
    GROUP,
    OWNER,
    TENANT_SERVICE,
    VIEWER,
    Stub,
    condition,
    grant,
    update,
    write,
)
from tests.contract.permission.serving import bearer, reason_of
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, members, ref

WORKLOAD = bearer("user")
RECORDS = [ref("record", number) for number in range(25)]


@pytest.fixture
async def stub(stub: Stub) -> Stub:
    """As everywhere here, and 25 records are in the table."""
    await stub.WriteRelationships(write(*(update(each, "table", TABLE) for each in RECORDS)), metadata=OWNER)
    return stub


async def _all(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def test_questions_of_a_stream_are_answered_each_for_itself(stub: Stub) -> None:
    items = [
        pb.CheckItem(resource=RECORDS[0], permission="read"),
        pb.CheckItem(resource="record", permission="read"),
        pb.CheckItem(resource=RECORDS[1], permission="delete"),
    ]
    requests = (pb.StreamCheckPermissionsRequest(key=key, item=item) for key, item in enumerate(items))
    answers = await _all(stub.StreamCheckPermissions(requests, metadata=VIEWER))
    found = {each.key: each.result.decision.result or each.result.error.code for each in answers}
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert found == {0: pb.Decision.RESULT_ALLOWED, 1: invalid, 2: pb.Decision.RESULT_DENIED}
    assert answers[0].consistency_token


async def _resources(stub: Stub, request: pb.LookupResourcesRequest) -> tuple[list[str], pb.LookupResourcesResponse]:
    messages = await _all(stub.LookupResources(request, metadata=VIEWER))
    return [found.resource for each in messages for found in each.resources], messages[-1]


async def test_a_list_is_complete_sorted_and_of_one_state_however_it_is_cut(stub: Stub) -> None:
    request = pb.LookupResourcesRequest(resource_type="record", permission="read")
    found, end = await _resources(stub, request)
    assert found == RECORDS
    assert (end.summary.count, end.summary.complete, end.cursor) == (25, True, "")
    request.limit, found = 10, []
    counts = []
    while True:
        part, end = await _resources(stub, request)
        found += part
        counts.append(end.summary.count)
        if end.summary.complete:
            break
        request.cursor = end.cursor
        # What is written between two parts is not in the list that was begun before.
        extra = update(ref("record", f"{len(counts)}x"), "table", TABLE)
        await stub.WriteRelationships(write(extra), metadata=OWNER)
    assert found == RECORDS
    assert counts == [10, 20, 25]
    request.permission = "update"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _resources(stub, request)
    assert reason_of(caught.value) == "CURSOR_INVALID"


async def test_a_long_list_begins_with_a_few_and_goes_on_behind_any_message(stub: Stub) -> None:
    more = [ref("record", f"{number}y") for number in range(800)]
    await stub.WriteRelationships(write(*(update(each, "table", TABLE) for each in more)), metadata=OWNER)
    request = pb.LookupResourcesRequest(resource_type="record", permission="read")
    messages = await _all(stub.LookupResources(request, metadata=VIEWER))
    assert [len(each.resources) for each in messages] == [100, 500, 225]
    assert [each.HasField("summary") for each in messages] == [False, False, True]
    assert messages[-1].summary.count == 825
    whole = [found.resource for each in messages for found in each.resources]
    assert whole == sorted([*RECORDS, *more])
    for number, each in enumerate(messages[:-1], 1):
        request.cursor = each.cursor
        rest, end = await _resources(stub, request)
        assert whole[sum(len(before.resources) for before in messages[:number]) :] == rest
        assert (end.summary.count, end.summary.complete) == (825, True)


async def test_who_may_act_is_listed_and_expanded(stub: Stub) -> None:
    await stub.WriteRelationships(write(update(GROUP, "member", CAROL)), metadata=OWNER)
    await stub.GrantRole(grant("roles/editor", TABLE, members()), metadata=OWNER)
    request = pb.LookupSubjectsRequest(resource=TABLE, permission="read", subject_type="user")
    messages = await _all(stub.LookupSubjects(request, metadata=OWNER))
    assert [found.subject for each in messages for found in each.subjects] == [ALICE, BOB, CAROL]
    assert messages[-1].summary.complete
    request.subject_type, request.subject_relation = "group", "member"
    messages = await _all(stub.LookupSubjects(request, metadata=OWNER))
    assert [found.subject for each in messages for found in each.subjects] == [members()]
    assert messages[-1].summary.complete
    request.subject_type = "user"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _all(stub.LookupSubjects(request, metadata=OWNER))
    assert reason_of(caught.value) == "UNKNOWN_RELATION"
    tree = await stub.ExpandPermission(pb.ExpandPermissionRequest(resource=TABLE, permission="read"), metadata=OWNER)
    assert _leaves(tree.root) == {members(), BOB, ALICE}
    assert tree.consistency_token


def _leaves(node: pb.ExpansionNode) -> set[str]:
    return set(node.subjects).union(*map(_leaves, node.children))


async def test_a_watch_sees_each_revision_and_resumes_behind_its_checkpoint(stub: Stub) -> None:
    watch = stub.WatchRelationships(pb.WatchRelationshipsRequest(), metadata=OWNER)
    begun = await watch.read()
    assert not begun.changes
    assert begun.checkpoint_token
    granted = await stub.GrantRole(grant("roles/editor", BASE, CAROL), metadata=OWNER)
    await stub.WriteRelationships(write(update(GROUP, "member", CAROL)), metadata=OWNER)
    first, second = await watch.read(), await watch.read()
    watch.cancel()
    assert [each.role_binding.subject for each in first.changes] == [CAROL]
    question = pb.CheckPermissionRequest(resource=BASE, permission="read")
    question.consistency.at_exact_snapshot = first.checkpoint_token
    answer = await stub.CheckPermission(question, metadata=OWNER)
    assert answer.decision.consistency_token == granted.consistency_token
    assert [each.relationship.resource for each in second.changes] == [GROUP]
    for token, types in ((first.checkpoint_token, []), (begun.checkpoint_token, ["group"])):
        request = pb.WatchRelationshipsRequest(start_token=token, resource_types=types)
        resumed = stub.WatchRelationships(request, metadata=OWNER)
        assert await resumed.read() == second
        resumed.cancel()


async def test_streams_carry_conditions(stub: Stub) -> None:
    inside = condition(network="10.0.0.0/8")
    joined = update(GROUP, "member", CAROL, condition=inside)
    watch = stub.WatchRelationships(pb.WatchRelationshipsRequest(), metadata=OWNER)
    await watch.read()
    await stub.WriteRelationships(write(joined), metadata=OWNER)
    granted = await stub.GrantRole(grant("roles/viewer", BASE, members(), condition=inside), metadata=OWNER)
    first, second = await watch.read(), await watch.read()
    watch.cancel()
    assert [each.relationship for each in first.changes] == [joined.relationship]
    assert [each.role_binding.condition for each in second.changes] == [granted.role_binding.condition]
    stream = stub.StreamReplica(pb.StreamReplicaRequest(tenant=f"tenants/{TENANT_ID}"), metadata=WORKLOAD)
    message = await stream.read()
    stream.cancel()
    engine = load_scoped(message.snapshot.data, product.policy())
    for context, allowed in (({"address": "10.1.1.1"}, True), ({"address": "::1"}, False), ({}, False)):
        assert engine.check((TABLE, "read", CAROL), Circumstances(0.0, context)).allowed == allowed
    (part,) = await _all(stub.ExportRelationships(pb.ExportRelationshipsRequest(), metadata=OWNER))
    assert joined.relationship in part.relationships
    other = "ten" + "2" * 26
    await stub.GrantRole(grant("roles/owner", f"tenant:{other}", ALICE), metadata=TENANT_SERVICE)
    request = pb.ImportRelationshipsRequest(relationships=[joined.relationship])
    await stub.ImportRelationships(iter([request]), metadata=bearer(ALICE, other))
    read = pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(resource=GROUP))
    found = await stub.ReadRelationships(read, metadata=bearer(ALICE, other))
    assert list(found.relationships) == [joined.relationship]
    tables = pb.LookupResourcesRequest(resource_type="table", permission="read")
    (listed,) = await _all(stub.LookupResources(tables, metadata=bearer(CAROL, TENANT_ID)))
    assert [(each.resource, list(each.missing_context)) for each in listed.resources] == [(TABLE, ["address"])]


async def test_a_watch_ends_for_who_may_no_longer_manage(stub: Stub) -> None:
    binding = (await stub.GrantRole(grant("roles/owner", TENANT, BOB), metadata=OWNER)).role_binding
    watch = stub.WatchRelationships(pb.WatchRelationshipsRequest(), metadata=VIEWER)
    await watch.read()
    await stub.RevokeRole(pb.RevokeRoleRequest(name=binding.name), metadata=OWNER)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def _snapshot(stream: Any) -> tuple[bytes, pb.StreamReplicaResponse]:
    data = b""
    while True:
        message = await stream.read()
        data += message.snapshot.data
        if message.snapshot.last:
            assert len(data) == message.snapshot.total_bytes
            return data, message


async def _change(stream: Any) -> pb.StreamReplicaResponse:
    """The next message that changes something; what is not asked for is told of as a heartbeat."""
    while not (message := await stream.read()).HasField("changes"):
        pass
    found: pb.StreamReplicaResponse = message
    return found


async def test_a_replica_hears_at_once_of_what_changed_nothing_for_it(stub: Stub) -> None:
    request = pb.StreamReplicaRequest(tenant=f"tenants/{TENANT_ID}", resource_types=["tenant"])
    request.heartbeat_interval.seconds = 60
    stream = stub.StreamReplica(request, metadata=WORKLOAD)
    _, last = await _snapshot(stream)
    assert (await stream.read()).revision == last.revision
    written = await stub.WriteRelationships(write(update(ref("record", "z"), "table", TABLE)), metadata=OWNER)
    told = await stream.read()
    assert (told.WhichOneof("payload"), told.revision) == (None, last.revision + 1)
    assert claimed_revision(told.checkpoint_token) == claimed_revision(written.consistency_token)
    stream.cancel()


@pytest.mark.parametrize("types", [[], ["table"]])
async def test_a_replica_gets_a_snapshot_and_then_the_changes(stub: Stub, types: Sequence[str]) -> None:
    request = pb.StreamReplicaRequest(tenant=f"tenants/{TENANT_ID}", resource_types=types)
    stream = stub.StreamReplica(request, metadata=WORKLOAD)
    data, last = await _snapshot(stream)
    engine = load_scoped(data, product.policy())
    assert engine.revision == last.revision
    assert engine.check((TABLE, "read", BOB), Circumstances(0)).allowed
    assert engine.roles.keys() == schema.SYSTEM_ROLES.keys()
    assert (RECORDS[0] in engine.graph.names.handles) == (not types)
    assert (await stream.read()).revision == last.revision
    await stub.WriteRelationships(write(update(ref("record", "z"), "table", TABLE)), metadata=OWNER)
    await stub.GrantRole(grant("roles/editor", BASE, CAROL), metadata=OWNER)
    changes = [await _change(stream) for _ in range(1 if types else 2)]
    stream.cancel()
    assert changes[-1].changes.changes[0].role_binding.subject == CAROL
    assert changes[-1].revision == last.revision + 2
    request.checkpoint_token = last.checkpoint_token
    resumed = stub.StreamReplica(request, metadata=WORKLOAD)
    assert (await _change(resumed)).changes == changes[0].changes
    resumed.cancel()


async def test_an_export_is_of_one_state_and_can_be_imported_elsewhere(stub: Stub) -> None:
    more = [update(ref("record", f"m{number}"), "table", TABLE) for number in range(2_100)]
    written = await stub.WriteRelationships(write(*more), metadata=OWNER)
    stream = stub.ExportRelationships(pb.ExportRelationshipsRequest(), metadata=OWNER)
    first = await stream.read()
    stream.cancel()
    await stub.WriteRelationships(write(update(ref("record", "zz"), "table", TABLE)), metadata=OWNER)
    request = pb.ExportRelationshipsRequest(cursor=first.cursor)
    rest = await _all(stub.ExportRelationships(request, metadata=OWNER))
    assert {each.consistency_token for each in (first, *rest)} == {written.consistency_token}
    exported = [each for part in (first, *rest) for each in part.relationships]
    assert len(exported) == 2_100 + len(RECORDS) + 3
    assert [each.resource for each in exported] == sorted(each.resource for each in exported)
    other = bearer(ALICE, "ten" + "2" * 26)
    elsewhere = grant("roles/owner", "tenant:ten" + "2" * 26, ALICE)
    await stub.GrantRole(elsewhere, metadata=TENANT_SERVICE)
    parents = [each for each in exported if each.relation in {"workspace", "base"}]
    parts = [parents[::-1], *(exported[at : at + 1_000] for at in range(0, len(exported), 1_000))]
    requests = [pb.ImportRelationshipsRequest(relationships=part) for part in parts]
    imported = await stub.ImportRelationships(iter(requests), metadata=other)
    again = await stub.ImportRelationships(iter(requests), metadata=other)
    assert (imported.imported_count, again.imported_count) == (len(exported), 0)
    answer = await stub.CheckPermission(
        pb.CheckPermissionRequest(resource=RECORDS[0], permission="read"), metadata=other
    )
    assert answer.decision.result == pb.Decision.RESULT_ALLOWED
