"""Models that tenants bring: schemas, relationships and answers of their own, apart from the product's and others'."""

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.replica.authorizer import claimed_revision
from tests.contract.permission.requests import (
    ELSEWHERE,
    OWNER,
    STRANGER,
    TENANT_SERVICE,
    Stub,
    grant,
    update,
    write,
)
from tests.contract.permission.serving import Metadata, details_of, reason_of
from tests.unit.permission.world import ALICE, CAROL, TENANT, TENANT_ID

MODEL = """model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type doc
  relations
    define owner: [user]
    define blocked: [user]
    define viewer: [user, user:*, team#member, user with office_hours] or owner
    define reader: viewer but not blocked
condition office_hours(hour: int) {
  hour >= 9 && hour < 17
}
"""
ANNE = CAROL


@pytest.fixture
async def stub(service: Stub) -> Stub:
    for tenant_id in (TENANT_ID, "ten" + "2" * 26):
        await service.GrantRole(grant("roles/owner", f"tenant:{tenant_id}", ALICE), metadata=TENANT_SERVICE)
    return service


@pytest.fixture
async def space(stub: Stub) -> str:
    created = await stub.CreateModelSpace(_space("Documents"), metadata=OWNER)
    await stub.WriteSchema(pb.WriteSchemaRequest(space=created.name, source=MODEL), metadata=OWNER)
    return created.name


def _space(display_name: str) -> pb.CreateModelSpaceRequest:
    return pb.CreateModelSpaceRequest(
        model_space=pb.ModelSpace(display_name=display_name), request_id=str(uuid.uuid4())
    )


def _docs(space: str, **more: Any) -> pb.ReadRelationshipsRequest:
    return pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(resource_type="doc"), space=space, **more)


async def _refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def _may(stub: Stub, space: str, resource: str, permission: str, **more: Any) -> pb.Decision:
    request = pb.CheckPermissionRequest(resource=resource, permission=permission, space=space, **more)
    return (await stub.CheckPermission(request, metadata=STRANGER)).decision


async def test_a_model_answers_with_conditions_groups_and_exclusions(stub: Stub, space: str) -> None:
    at_hours = pb.ConditionReference(name="office_hours")
    timed = pb.Relationship(resource="doc:timed", relation="viewer", subject=ANNE, condition=at_hours)
    updates = [
        update("team:x", "member", ANNE),
        update("doc:a", "viewer", "team:x#member"),
        update("doc:b", "viewer", "user:*"),
        update("doc:b", "blocked", ANNE),
        pb.RelationshipUpdate(operation=pb.RelationshipUpdate.OPERATION_CREATE, relationship=timed),
    ]
    written = await stub.WriteRelationships(write(*updates, space=space), metadata=OWNER)
    fresh = pb.Consistency(at_least_as_fresh=written.consistency_token)
    results = pb.Decision
    assert (await _may(stub, space, "doc:a", "reader", consistency=fresh)).result == results.RESULT_ALLOWED
    assert (await _may(stub, space, "doc:b", "viewer")).result == results.RESULT_ALLOWED
    assert (await _may(stub, space, "doc:b", "reader")).result == results.RESULT_DENIED
    asked = await _may(stub, space, "doc:timed", "viewer")
    assert (asked.result, list(asked.missing_context)) == (results.RESULT_CONDITIONAL, ["hour"])
    for hour, result in ((10, results.RESULT_ALLOWED), (20, results.RESULT_DENIED)):
        context = Struct()
        context.update({"hour": hour})
        assert (await _may(stub, space, "doc:timed", "viewer", context=context)).result == result
    items = [pb.CheckItem(resource=f"doc:{name}", permission="reader") for name in "ab"]
    batch = await stub.BatchCheckPermissions(
        pb.BatchCheckPermissionsRequest(items=items, space=space), metadata=STRANGER
    )
    assert [each.decision.result for each in batch.results] == [results.RESULT_ALLOWED, results.RESULT_DENIED]
    request = pb.LookupResourcesRequest(resource_type="doc", permission="reader", space=space)
    found = [each async for each in stub.LookupResources(request, metadata=STRANGER)]
    assert [(entry.resource, entry.result) for each in found for entry in each.resources] == [
        ("doc:a", results.RESULT_ALLOWED),
        ("doc:timed", results.RESULT_CONDITIONAL),
    ]
    assert found[-1].summary.complete
    who = pb.LookupSubjectsRequest(
        resource="doc:a", permission="viewer", subject_type="team", subject_relation="member", space=space
    )
    subjects = [each async for each in stub.LookupSubjects(who, metadata=OWNER)]
    assert [entry.subject for each in subjects for entry in each.subjects] == ["team:x#member"]
    why = pb.ExplainPermissionRequest(resource="doc:a", permission="reader", subject=ANNE, space=space)
    explained = await stub.ExplainPermission(why, metadata=OWNER)
    assert [str(each.object) for each in explained.path] == ["team:x", "doc:a"]
    tree = await stub.ExpandPermission(
        pb.ExpandPermissionRequest(resource="doc:a", permission="viewer", space=space), metadata=OWNER
    )
    assert tree.root.operation == pb.ExpansionNode.OPERATION_UNION


async def test_others_and_assumptions_are_for_who_manages_access(stub: Stub, space: str) -> None:
    assumed = [pb.Relationship(resource="doc:a", relation="owner", subject=ANNE)]
    about = {"resource": "doc:a", "permission": "viewer", "space": space}
    for more in ({"subject": ALICE}, {"contextual_relationships": assumed}):
        request = pb.CheckPermissionRequest(**about, **more)
        error = await _refused(stub.CheckPermission(request, metadata=STRANGER))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        await stub.CheckPermission(request, metadata=OWNER)
    for call in (
        stub.WriteRelationships(write(update("doc:a", "owner", ANNE), space=space), metadata=STRANGER),
        stub.ReadRelationships(_docs(space), metadata=STRANGER),
        stub.WriteSchema(pb.WriteSchemaRequest(space=space, source=MODEL), metadata=STRANGER),
    ):
        assert (await _refused(call)).code() is grpc.StatusCode.PERMISSION_DENIED


async def test_writes_keep_to_the_schema_and_are_all_or_nothing(stub: Stub, space: str) -> None:
    bad = write(update("doc:a", "owner", ANNE), update("doc:a", "owner", "team:x#member"), space=space)
    error = await _refused(stub.WriteRelationships(bad, metadata=OWNER))
    assert details_of(error) == ("SUBJECT_NOT_ADMITTED", ["updates[1].relationship.subject"])
    everything = _docs(space)
    assert not (await stub.ReadRelationships(everything, metadata=OWNER)).relationships
    first = await stub.WriteRelationships(write(update("doc:a", "owner", ANNE), space=space), metadata=OWNER)
    error = await _refused(stub.WriteRelationships(write(update("doc:a", "owner", ANNE), space=space), metadata=OWNER))
    assert reason_of(error) == "RELATIONSHIP_EXISTS"
    deletion = pb.DeleteRelationshipsRequest(filter=pb.RelationshipFilter(resource_type="doc"), space=space)
    assert (await stub.DeleteRelationships(deletion, metadata=OWNER)).deleted_count == 1
    then = pb.Consistency(at_exact_snapshot=first.consistency_token)
    assert (await _may(stub, space, "doc:a", "owner", consistency=then)).result == pb.Decision.RESULT_ALLOWED
    assert (await _may(stub, space, "doc:a", "owner")).result == pb.Decision.RESULT_DENIED
    past = await stub.ReadRelationships(_docs(space, consistency=then), metadata=OWNER)
    assert [each.resource for each in past.relationships] == ["doc:a"]


async def test_nothing_crosses_spaces_or_tenants(stub: Stub, space: str) -> None:
    other = (await stub.CreateModelSpace(_space("Others"), metadata=OWNER)).name
    await stub.WriteSchema(pb.WriteSchemaRequest(space=other, source=MODEL), metadata=OWNER)
    written = await stub.WriteRelationships(write(update("doc:a", "owner", ANNE), space=space), metadata=OWNER)
    assert (await _may(stub, other, "doc:a", "owner")).result == pb.Decision.RESULT_DENIED
    fresh = pb.Consistency(at_least_as_fresh=written.consistency_token)
    for where in (other, ""):
        request = pb.CheckPermissionRequest(resource=TENANT, permission="read", space=where, consistency=fresh)
        assert reason_of(await _refused(stub.CheckPermission(request, metadata=OWNER))) == "INVALID_CONSISTENCY_TOKEN"
    schema = (await stub.GetSchema(pb.GetSchemaRequest(space=space), metadata=OWNER)).name
    question = pb.CheckPermissionRequest(resource="doc:a", permission="owner", space=space)
    writing = write(update("doc:b", "owner", ANNE), space=space)
    for call, reason in (
        (stub.CheckPermission(question, metadata=ELSEWHERE), "UNKNOWN_MODEL_SPACE"),
        (stub.ReadRelationships(_docs(space), metadata=ELSEWHERE), "UNKNOWN_MODEL_SPACE"),
        (stub.WriteRelationships(writing, metadata=ELSEWHERE), "UNKNOWN_MODEL_SPACE"),
        (_written(stub, space, MODEL, ELSEWHERE), "NOT_FOUND"),
        (stub.GetSchema(pb.GetSchemaRequest(name=schema), metadata=ELSEWHERE), "NOT_FOUND"),
        (_watched(stub, space), "UNKNOWN_MODEL_SPACE"),
    ):
        assert reason_of(await _refused(call)) == reason
    await stub.CreateModelSpace(_space("Documents"), metadata=ELSEWHERE)
    assert await _names(stub, OWNER) == ["modelSpaces/platform", space, other]
    assert space not in await _names(stub, ELSEWHERE)
    assert (await stub.GetModelSpace(pb.GetModelSpaceRequest(name=space), metadata=OWNER)).display_name == "Documents"
    hidden = await _refused(stub.GetModelSpace(pb.GetModelSpaceRequest(name=space), metadata=ELSEWHERE))
    assert hidden.code() is grpc.StatusCode.NOT_FOUND
    error = await _refused(stub.CreateModelSpace(_space("documents "), metadata=OWNER))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def _names(stub: Stub, metadata: Metadata) -> list[str]:
    names, request = list[str](), pb.ListModelSpacesRequest(page_size=1)
    while True:
        page = await stub.ListModelSpaces(request, metadata=metadata)
        names += [each.name for each in page.model_spaces]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return names


async def _written(stub: Stub, space: str, source: str, metadata: Metadata) -> pb.WriteSchemaResponse:
    return await stub.WriteSchema(pb.WriteSchemaRequest(space=space, source=source), metadata=metadata)


async def _watched(stub: Stub, space: str) -> Any:
    return await stub.WatchRelationships(pb.WatchRelationshipsRequest(space=space), metadata=ELSEWHERE).read()


SMALLER = """model
  schema 1.1
type user
type doc
  relations
    define owner: [user]
    define editor: owner
"""


async def test_a_schema_that_would_orphan_relationships_is_refused_with_their_names(stub: Stub, space: str) -> None:
    await stub.WriteRelationships(write(update("team:x", "member", ANNE), space=space), metadata=OWNER)
    first = await stub.GetSchema(pb.GetSchemaRequest(space=space), metadata=OWNER)
    assert first.source == MODEL
    smaller = pb.WriteSchemaRequest(space=space, source=SMALLER, expected_current=first.name)
    error = await _refused(stub.WriteSchema(smaller, metadata=OWNER))
    assert reason_of(error) == "SCHEMA_ORPHANS_RELATIONSHIPS"
    assert f"team:x#member@{ANNE}" in error.details()
    difference = pb.DiffSchemasRequest(before=pb.SchemaSource(name=first.name), after=pb.SchemaSource(text=SMALLER))
    found = (await stub.DiffSchemas(difference, metadata=OWNER)).differences
    assert {each.element: each.orphaned_relationships for each in found if each.orphaned_relationships} == {"team": 1}
    assert "doc#editor" in {each.element for each in found if each.kind == pb.SchemaDifference.KIND_ADDED}
    await stub.GrantRole(grant("roles/viewer", TENANT, ANNE), metadata=OWNER)
    shown = (await stub.DiffSchemas(difference, metadata=STRANGER)).differences
    assert [each.element for each in shown] == [each.element for each in found]
    assert not any(each.orphaned_relationships for each in shown)
    await stub.DeleteRelationships(
        pb.DeleteRelationshipsRequest(filter=pb.RelationshipFilter(resource_type="team"), space=space), metadata=OWNER
    )
    second = await stub.WriteSchema(smaller, metadata=OWNER)
    assert (await _refused(stub.WriteSchema(smaller, metadata=OWNER))).code() is grpc.StatusCode.ABORTED
    listed = await stub.ListSchemaVersions(pb.ListSchemaVersionsRequest(space=space), metadata=OWNER)
    assert [each.name for each in listed.schemas] == [second.schema.name, first.name]
    assert not any(each.source for each in listed.schemas)
    fresh = pb.Consistency(at_least_as_fresh=second.consistency_token)
    assert (await _may(stub, space, "doc:a", "editor", consistency=fresh)).result == pb.Decision.RESULT_DENIED
    broken = pb.WriteSchemaRequest(space=space, source=MODEL.replace("[user]", "[cake]"))
    error = await _refused(stub.WriteSchema(broken, metadata=OWNER))
    assert reason_of(error) == "INVALID_SCHEMA"
    assert "line " in error.details()


async def test_a_schema_is_tried_alone_and_against_what_is_stored(stub: Stub, space: str) -> None:
    await stub.WriteRelationships(write(update("doc:a", "owner", ANNE), space=space), metadata=OWNER)
    assertion = pb.SchemaAssertion(
        check=pb.CheckItem(resource="doc:a", permission="viewer", subject=ANNE), expected=pb.Decision.RESULT_ALLOWED
    )
    request = pb.TestSchemaRequest(schema=pb.SchemaSource(text=MODEL), assertions=[assertion])
    alone = await stub.TestSchema(request, metadata=OWNER)
    assert not alone.passed
    assert "allowed was expected" in alone.results[0].sentence
    request.relationships.append(pb.Relationship(resource="doc:a", relation="viewer", subject="user:*"))
    assert (await stub.TestSchema(request, metadata=OWNER)).passed
    del request.relationships[:]
    request.space = space
    assert (await stub.TestSchema(request, metadata=OWNER)).passed
    assert (await stub.GetSchema(pb.GetSchemaRequest(), metadata=OWNER)).name == "schemas/platform-1"


async def test_a_space_can_be_watched_exported_and_imported(stub: Stub, space: str) -> None:
    watch = stub.WatchRelationships(pb.WatchRelationshipsRequest(space=space), metadata=OWNER)
    await watch.read()
    stored = [pb.Relationship(resource=f"doc:{number}", relation="owner", subject=ANNE) for number in range(1_200)]
    requests = [pb.ImportRelationshipsRequest(relationships=stored, space=space)]
    imported = await stub.ImportRelationships(iter(requests), metadata=OWNER)
    assert imported.imported_count == len(stored)
    seen = await watch.read()
    watch.cancel()
    assert len(seen.changes) == len(stored)
    assert claimed_revision(seen.checkpoint_token) == claimed_revision(imported.consistency_token)
    parts = stub.ExportRelationships(pb.ExportRelationshipsRequest(space=space), metadata=OWNER)
    exported = [each async for part in parts for each in part.relationships]
    assert sorted(each.resource for each in exported) == sorted(each.resource for each in stored)
