"""The permission service as its clients see it: every implemented RPC, good input and bad."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission.servicer import ACCESS
from pyairtable_mesh.runtime.database import Database
from tests.contract.permission.serving import Metadata, bearer, served
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, WORKSPACE, members, ref

Stub = permission_pb2_grpc.PermissionServiceStub
OWNER, VIEWER, STRANGER = (bearer(each, TENANT_ID) for each in (ALICE, BOB, CAROL))
ELSEWHERE = bearer(ALICE, "ten" + "2" * 26)
TENANT_SERVICE = bearer("tenant")
GROUP, FIELD = ref("group"), ref("field")
BINDING = "roleBindings/rbn" + "0" * 26
NO_SPACE = "modelSpaces/spc" + "0" * 26
Update = pb.RelationshipUpdate


@pytest.fixture
def migrations_package() -> str:
    return "pyairtable_mesh.permission.migrations"


@pytest.fixture
async def stub(database: Database) -> AsyncIterator[Stub]:
    """Alice owns the tenant, Bob views the base; a table with a field is in the base."""
    async with served(database) as made:
        await made.GrantRole(_grant("roles/owner", TENANT, ALICE), metadata=TENANT_SERVICE)
        links = [_update(BASE, "workspace", WORKSPACE), _update(TABLE, "base", BASE), _update(FIELD, "table", TABLE)]
        await made.WriteRelationships(pb.WriteRelationshipsRequest(updates=links), metadata=OWNER)
        await made.GrantRole(_grant("roles/viewer", BASE, BOB), metadata=OWNER)
        yield made


def _grant(role: str, resource: str, subject: str, **more: Any) -> pb.GrantRoleRequest:
    return pb.GrantRoleRequest(role=role, resource=resource, subject=subject, **more)


def _update(
    resource: str,
    relation: str,
    subject: str,
    operation: pb.RelationshipUpdate.Operation = Update.OPERATION_CREATE,
    condition: pb.ConditionReference | None = None,
) -> pb.RelationshipUpdate:
    relationship = pb.Relationship(resource=resource, relation=relation, subject=subject, condition=condition)
    return pb.RelationshipUpdate(operation=operation, relationship=relationship)


def _condition(**values: Any) -> pb.ConditionReference:
    condition = pb.ConditionReference(name="in_network")
    condition.context.update(values)
    return condition


def _check(resource: str, permission: str, subject: str = "", **more: Any) -> pb.CheckPermissionRequest:
    return pb.CheckPermissionRequest(resource=resource, permission=permission, subject=subject, **more)


def _write(*updates: pb.RelationshipUpdate, **more: Any) -> pb.WriteRelationshipsRequest:
    return pb.WriteRelationshipsRequest(updates=updates, **more)


def _details(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """The reason and the fields that are to blame."""
    (raw,) = (value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    info, broken = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(raw).details:
        detail.Unpack(info)
        detail.Unpack(broken)
    return info.reason, [violation.field for violation in broken.field_violations]


BAD = [
    ("CheckPermission", _check("base", "read"), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["resource"]),
    ("CheckPermission", _check("cake:x", "read"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_TYPE", ["resource"]),
    ("CheckPermission", _check("base:x", "read"), OWNER, "INVALID_ARGUMENT", "MALFORMED_REFERENCE", ["resource"]),
    ("CheckPermission", _check(BASE, "bake"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_PERMISSION", ["permission"]),
    ("CheckPermission", _check(BASE, "read", f"{BASE}#x"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_RELATION", ["subject"]),
    (
        "CheckPermission",
        _check(BASE, "read", space="modelSpaces/spc" + "0" * 26),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_MODEL_SPACE",
        ["space"],
    ),
    (
        "CheckPermission",
        _check(BASE, "read", consistency=pb.Consistency(at_least_as_fresh="forged")),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONSISTENCY_TOKEN",
        ["consistency.at_least_as_fresh"],
    ),
    ("CheckPermission", _check(BASE, "read", ALICE), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    ("CheckPermission", _check(BASE, "read", ALICE), STRANGER, "NOT_FOUND", "NOT_FOUND", []),
    (
        "CheckPermission",
        _check(
            BASE,
            "read",
            contextual_relationships=[pb.Relationship(resource=GROUP, relation="member", subject=BOB)],
        ),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "ExplainPermission",
        pb.ExplainPermissionRequest(resource=BASE, permission="read", subject=ALICE),
        STRANGER,
        "NOT_FOUND",
        "NOT_FOUND",
        [],
    ),
    (
        "BatchCheckPermissions",
        pb.BatchCheckPermissionsRequest(),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["items"],
    ),
    (
        "GetEffectivePermissions",
        pb.GetEffectivePermissionsRequest(resource=BASE, subject=ALICE),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "WriteRelationships",
        _write(_update(GROUP, "member", "robot:x")),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_TYPE",
        ["updates[0].relationship.subject"],
    ),
    (
        "WriteRelationships",
        _write(pb.RelationshipUpdate(relationship=pb.Relationship(resource=GROUP, relation="member", subject=BOB))),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["updates[0].operation"],
    ),
    (
        "WriteRelationships",
        _write(_update(BASE, "workspace", ref("workspace", 2))),
        OWNER,
        "FAILED_PRECONDITION",
        "RESOURCE_HAS_PARENT",
        [],
    ),
    (
        "ReadRelationships",
        pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(relation="likes")),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_RELATION",
        ["filter.relation"],
    ),
    (
        "ReadRelationships",
        pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(relation="member"), page_token="AAAA"),
        OWNER,
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
        ["page_token"],
    ),
    (
        "DeleteRelationships",
        pb.DeleteRelationshipsRequest(filter=pb.RelationshipFilter()),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["filter"],
    ),
    (
        "DeleteRelationships",
        pb.DeleteRelationshipsRequest(filter=pb.RelationshipFilter(resource=BASE)),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    ("GrantRole", _grant("roles/viewer", BASE, BOB), OWNER, "ALREADY_EXISTS", "ROLE_BINDING_EXISTS", []),
    ("GrantRole", _grant("roles/boss", BASE, BOB), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["role"]),
    ("GrantRole", _grant("roles/viewer", BASE, TABLE), OWNER, "INVALID_ARGUMENT", "SUBJECT_NOT_ADMITTED", ["subject"]),
    ("GrantRole", _grant("roles/viewer", BASE, CAROL), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "GrantRole",
        _grant("roles/viewer", BASE, CAROL, expire_time=timestamp_pb2.Timestamp(seconds=1)),
        OWNER,
        "INVALID_ARGUMENT",
        "TIME_IN_PAST",
        ["expire_time"],
    ),
    (
        "GrantRole",
        _grant("roles/viewer", BASE, CAROL, expire_time=timestamp_pb2.Timestamp(seconds=1 << 60)),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["expire_time"],
    ),
    (
        "GrantRole",
        _grant("roles/viewer", BASE, CAROL, condition=pb.ConditionReference(name="office_hours")),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_CONDITION",
        ["condition"],
    ),
    (
        "GrantRole",
        _grant("roles/viewer", BASE, CAROL, condition=_condition(network=7)),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONTEXT",
        ["condition.context.network"],
    ),
    (
        "WriteRelationships",
        _write(_update(TABLE, "base", BASE, condition=_condition())),
        OWNER,
        "INVALID_ARGUMENT",
        "SUBJECT_NOT_ADMITTED",
        ["updates[0].relationship.subject"],
    ),
    (
        "WriteRelationships",
        _write(_update(GROUP, "member", CAROL, condition=_condition(planet="here"))),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONTEXT",
        ["updates[0].relationship.condition.context"],
    ),
    ("GrantRole", _grant("roles/owner", TENANT, BOB), bearer("user"), "PERMISSION_DENIED", "WORKLOAD_NOT_ALLOWED", []),
    ("RevokeRole", pb.RevokeRoleRequest(name=BINDING), OWNER, "NOT_FOUND", "ROLE_BINDING_NOT_FOUND", []),
    ("RevokeRole", pb.RevokeRoleRequest(name="x"), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["name"]),
    (
        "ListRoleBindings",
        pb.ListRoleBindingsRequest(page_size=-1),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["page_size"],
    ),
    ("ListRoleBindings", pb.ListRoleBindingsRequest(), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    ("CreateRole", pb.CreateRoleRequest(role=pb.Role()), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["role"]),
    (
        "CreateRole",
        pb.CreateRoleRequest(role=pb.Role(display_name="Cook", permissions=["kitchen.read"])),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_PERMISSION",
        ["role.permissions"],
    ),
    ("GetRole", pb.GetRoleRequest(name="roles/rol" + "0" * 26), OWNER, "NOT_FOUND", "ROLE_NOT_FOUND", []),
    ("GetRole", pb.GetRoleRequest(name="roles/viewer"), STRANGER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "ListRoles",
        pb.ListRolesRequest(page_token="AAAA"),
        OWNER,
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
        ["page_token"],
    ),
    (
        "UpdateRole",
        pb.UpdateRoleRequest(role=pb.Role(name="roles/viewer", description="x")),
        OWNER,
        "FAILED_PRECONDITION",
        "SYSTEM_ROLE",
        [],
    ),
    (
        "ClaimOwnership",
        pb.ClaimOwnershipRequest(code="guess"),
        STRANGER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["code"],
    ),
    ("DeleteRole", pb.DeleteRoleRequest(name="roles/viewer"), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "SetInheritance",
        pb.SetInheritanceRequest(resource=TENANT, mode=pb.SCOPE_MODE_RESTRICT),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["resource"],
    ),
    (
        "SetInheritance",
        pb.SetInheritanceRequest(resource=BASE),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["mode"],
    ),
    (
        "LookupSubjects",
        pb.LookupSubjectsRequest(resource=BASE, permission="read", subject_type="user"),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "LookupResources",
        pb.LookupResourcesRequest(resource_type="base", permission="read", cursor="forged"),
        VIEWER,
        "INVALID_ARGUMENT",
        "CURSOR_INVALID",
        ["cursor"],
    ),
    (
        "LookupResources",
        pb.LookupResourcesRequest(resource_type="base", permission="read", subject=ALICE),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "ExpandPermission",
        pb.ExpandPermissionRequest(resource=BASE, permission="read"),
        STRANGER,
        "NOT_FOUND",
        "NOT_FOUND",
        [],
    ),
    (
        "StreamCheckPermissions",
        pb.StreamCheckPermissionsRequest(consistency=pb.Consistency()),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["consistency.requirement"],
    ),
    ("WatchRelationships", pb.WatchRelationshipsRequest(), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "WatchRelationships",
        pb.WatchRelationshipsRequest(start_token="forged"),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONSISTENCY_TOKEN",
        ["start_token"],
    ),
    (
        "StreamReplica",
        pb.StreamReplicaRequest(tenant=f"tenants/{TENANT_ID}"),
        OWNER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    ("ExportRelationships", pb.ExportRelationshipsRequest(), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "ImportRelationships",
        pb.ImportRelationshipsRequest(
            relationships=[pb.Relationship(resource=GROUP, relation="member", subject=BASE)],
        ),
        OWNER,
        "INVALID_ARGUMENT",
        "SUBJECT_NOT_ADMITTED",
        ["relationships[0].subject"],
    ),
    ("GetSchema", pb.GetSchemaRequest(name="schemas/platform-9"), OWNER, "NOT_FOUND", "NOT_FOUND", []),
    (
        "ListSchemaVersions",
        pb.ListSchemaVersionsRequest(space=NO_SPACE),
        OWNER,
        "NOT_FOUND",
        "NOT_FOUND",
        [],
    ),
    ("GetRoleBinding", pb.GetRoleBindingRequest(name=BINDING), OWNER, "NOT_FOUND", "ROLE_BINDING_NOT_FOUND", []),
    ("GetModelSpace", pb.GetModelSpaceRequest(name=NO_SPACE), OWNER, "NOT_FOUND", "NOT_FOUND", []),
    (
        "ListModelSpaces",
        pb.ListModelSpacesRequest(page_token="forged"),
        OWNER,
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
        ["page_token"],
    ),
    (
        "CreateModelSpace",
        pb.CreateModelSpaceRequest(model_space=pb.ModelSpace(display_name="x")),
        VIEWER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "WriteSchema",
        pb.WriteSchemaRequest(space="modelSpaces/platform", source="model"),
        OWNER,
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        [],
    ),
    (
        "WriteSchema",
        pb.WriteSchemaRequest(space=NO_SPACE, source="model\n  schema 1.1\ntype user"),
        OWNER,
        "NOT_FOUND",
        "NOT_FOUND",
        [],
    ),
    (
        "DiffSchemas",
        pb.DiffSchemasRequest(before=pb.SchemaSource(text="model\n  schema 9.9"), after=pb.SchemaSource(text="x")),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_SCHEMA",
        ["source"],
    ),
    (
        "TestSchema",
        pb.TestSchemaRequest(schema=pb.SchemaSource(name="schemas/sch" + "0" * 26)),
        OWNER,
        "NOT_FOUND",
        "NOT_FOUND",
        [],
    ),
]

OF_STREAMS = {"StreamCheckPermissions", "ImportRelationships"}


async def test_bad_input_and_missing_permissions_get_typed_errors(stub: Stub) -> None:
    assert {method for method, *_ in BAD} >= ACCESS.keys()
    for method, request, metadata, code, reason, fields in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(stub, method, request, metadata)
        where = f"{method} {request}"
        assert caught.value.code().name == code, where
        assert _details(caught.value) == (reason, fields), where


async def _call(stub: Stub, method: str, request: Any, metadata: Metadata) -> Any:
    given = iter([request]) if method in OF_STREAMS else request
    call = getattr(stub, method)(given, metadata=metadata)
    return [message async for message in call] if hasattr(call, "__aiter__") else await call


async def test_nothing_is_answered_without_a_token(stub: Stub) -> None:
    for method, request, *_ in BAD:
        if method in ACCESS:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _call(stub, method, request, ())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_check_and_explain_agree_and_say_why(stub: Stub) -> None:
    for metadata, verb, allowed, sentence in (
        (
            VIEWER,
            "read",
            True,
            f"{BOB} may read {TABLE}: roles/viewer is bound to {BOB} at {BASE}, and {TABLE} inherits from {BASE}.",
        ),
        (
            VIEWER,
            "delete",
            False,
            f"{BOB} may not delete {TABLE}: no role with table.delete is bound to {BOB} or a group of it"
            f" at {TABLE} or {BASE} or {WORKSPACE} or {TENANT}.",
        ),
        (
            STRANGER,
            "read",
            False,
            f"{CAROL} may not read {TABLE}: no role with table.read that counts here is bound to {CAROL}"
            " or a group of it.",
        ),
    ):
        checked = await stub.CheckPermission(_check(TABLE, verb), metadata=metadata)
        request = pb.ExplainPermissionRequest(resource=TABLE, permission=verb)
        explained = await stub.ExplainPermission(request, metadata=metadata)
        assert checked.decision.result == explained.decision.result
        assert (checked.decision.result == pb.Decision.RESULT_ALLOWED) == allowed
        assert explained.sentence == sentence
        assert bool(explained.path) == allowed
        assert [grant.resource for grant in explained.missing_grants] == ([] if allowed else [TABLE])


async def test_a_batch_answers_each_item_or_says_why_not(stub: Stub) -> None:
    items = [
        pb.CheckItem(resource=TABLE, permission="read"),
        pb.CheckItem(resource=TABLE, permission="delete"),
        pb.CheckItem(resource="table", permission="read"),
        pb.CheckItem(resource=TABLE, permission="read", subject=ALICE),
    ]
    answer = await stub.BatchCheckPermissions(pb.BatchCheckPermissionsRequest(items=items), metadata=VIEWER)
    allowed, denied, malformed, foreign = answer.results
    assert (allowed.decision.result, denied.decision.result) == (pb.Decision.RESULT_ALLOWED, pb.Decision.RESULT_DENIED)
    assert malformed.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert foreign.error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert answer.consistency_token


async def test_ten_thousand_items_are_answered(stub: Stub) -> None:
    items = [pb.CheckItem(resource=ref("record", number), permission="read") for number in range(10_000)]
    answer = await stub.BatchCheckPermissions(pb.BatchCheckPermissionsRequest(items=items), metadata=OWNER)
    assert {result.decision.result for result in answer.results} == {pb.Decision.RESULT_DENIED}
    assert len(answer.results) == len(items)


async def test_a_token_tells_how_fresh_an_answer_must_be(stub: Stub) -> None:
    before = (await stub.CheckPermission(_check(BASE, "read"), metadata=VIEWER)).decision.consistency_token
    now = pb.Consistency(at_exact_snapshot=before)
    assert (await stub.CheckPermission(_check(BASE, "read", consistency=now), metadata=VIEWER)).decision.result
    granted = await stub.GrantRole(_grant("roles/editor", BASE, BOB), metadata=OWNER)
    fresh = pb.Consistency(at_least_as_fresh=granted.consistency_token)
    seen = await stub.CheckPermission(_check(TABLE, "create_record", consistency=fresh), metadata=VIEWER)
    assert seen.decision.result == pb.Decision.RESULT_ALLOWED
    then = await stub.CheckPermission(_check(TABLE, "create_record", consistency=now), metadata=VIEWER)
    assert then.decision == pb.Decision(result=pb.Decision.RESULT_DENIED, consistency_token=before)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CheckPermission(_check(BASE, "read", consistency=fresh), metadata=ELSEWHERE)
    assert _details(caught.value)[0] == "INVALID_CONSISTENCY_TOKEN"


async def test_a_retried_grant_is_answered_alike(stub: Stub) -> None:
    request = _grant("roles/editor", BASE, members(), request_id=str(uuid.uuid4()))
    first, second = [await stub.GrantRole(request, metadata=OWNER) for _ in range(2)]
    assert first == second
    another = pb.GrantRoleRequest()
    another.CopyFrom(request)
    another.condition.CopyFrom(_condition(network="::/0"))
    request.subject = BOB
    for reused in (request, another):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GrantRole(reused, metadata=OWNER)
        assert _details(caught.value)[0] == "REQUEST_ID_REUSED"


async def test_what_is_given_under_a_condition_is_answered_and_read_as_such(stub: Stub) -> None:
    inside = _condition(network="10.0.0.0/8")
    granted = await stub.GrantRole(_grant("roles/editor", BASE, members(), condition=inside), metadata=OWNER)
    binding = granted.role_binding
    assert binding.condition == inside
    joined = _update(GROUP, "member", CAROL, condition=inside)
    await stub.WriteRelationships(_write(joined), metadata=OWNER)
    results = []
    for address in ("10.1.1.1", "192.168.0.1", ""):
        request = _check(TABLE, "create_record")
        if address:
            request.context.update({"address": address})
        results.append((await stub.CheckPermission(request, metadata=STRANGER)).decision)
    assert [each.result for each in results] == [
        pb.Decision.RESULT_ALLOWED,
        pb.Decision.RESULT_DENIED,
        pb.Decision.RESULT_CONDITIONAL,
    ]
    assert results[2].missing_context == ["address"]
    explained = await stub.ExplainPermission(
        pb.ExplainPermissionRequest(resource=TABLE, permission="create_record", subject=CAROL), metadata=OWNER
    )
    assert [(each.condition, each.carrier) for each in explained.failed_conditions] == [
        ("in_network", binding.name),
        ("in_network", f"{members()}@{CAROL}"),
    ]
    assert await stub.GetRoleBinding(pb.GetRoleBindingRequest(name=binding.name), metadata=OWNER) == binding
    listed = await stub.ListRoleBindings(pb.ListRoleBindingsRequest(resource=BASE), metadata=OWNER)
    assert binding in listed.role_bindings
    read = pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(resource=GROUP))
    found = await stub.ReadRelationships(read, metadata=OWNER)
    assert list(found.relationships) == [joined.relationship]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GrantRole(_grant("roles/viewer", TABLE, BOB), metadata=STRANGER)
    assert caught.value.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}


async def test_effective_permissions_with_the_fields_that_differ(stub: Stub) -> None:
    request = pb.GetEffectivePermissionsRequest(resource=TABLE, subject=BOB)
    plain = await stub.GetEffectivePermissions(request, metadata=OWNER)
    assert list(plain.permissions) == ["read"]
    assert list(plain.inherited_permissions) == ["field.read", "record.read", "view.read"]
    assert not plain.field_permissions
    hide = pb.SetInheritanceRequest(resource=FIELD, mode=pb.SCOPE_MODE_RESTRICT)
    await stub.SetInheritance(hide, metadata=OWNER)
    hidden = await stub.GetEffectivePermissions(request, metadata=OWNER)
    assert [(each.field, list(each.permissions)) for each in hidden.field_permissions] == [(FIELD, [])]


async def test_lists_are_paged_without_loss(stub: Stub) -> None:
    users = [ref("user", number) for number in range(5)]
    joined = [_update(GROUP, "member", user) for user in users]
    await stub.WriteRelationships(_write(*joined), metadata=OWNER)
    request = pb.ReadRelationshipsRequest(filter=pb.RelationshipFilter(resource=GROUP), page_size=2)
    found: list[str] = []
    while True:
        page = await stub.ReadRelationships(request, metadata=OWNER)
        found += [each.subject for each in page.relationships]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert found == users
    roles = await stub.ListRoles(pb.ListRolesRequest(page_size=4), metadata=OWNER)
    rest = await stub.ListRoles(pb.ListRolesRequest(page_size=4, page_token=roles.next_page_token), metadata=OWNER)
    names = [role.name for role in (*roles.roles, *rest.roles)]
    assert names == [f"roles/{each}" for each in ("viewer", "commenter", "editor", "creator", "owner")]
    assert not rest.next_page_token
    bindings = await stub.ListRoleBindings(pb.ListRoleBindingsRequest(page_size=1), metadata=OWNER)
    assert [each.subject for each in bindings.role_bindings] == [ALICE]
    assert bindings.next_page_token


async def test_a_custom_role_lives_and_dies(stub: Stub) -> None:
    draft = pb.Role(display_name="Reader", permissions=["base.read", "table.read"])
    created = await stub.CreateRole(pb.CreateRoleRequest(role=draft), metadata=OWNER)
    changed = pb.Role(name=created.name, description="reads", permissions=["base.read"], etag=created.etag)
    request = pb.UpdateRoleRequest(role=changed)
    request.update_mask.paths.append("permissions")
    updated = await stub.UpdateRole(request, metadata=OWNER)
    assert (updated.display_name, updated.description, list(updated.permissions)) == ("Reader", "", ["base.read"])
    assert (await stub.GetRole(pb.GetRoleRequest(name=created.name), metadata=OWNER)).etag == updated.etag
    for paths, reason in ((["creator"], "FIELD_NOT_MUTABLE"), (["permissions"], "ETAG_MISMATCH")):
        request.update_mask.paths[:] = paths
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.UpdateRole(request, metadata=OWNER)
        assert _details(caught.value)[0] == reason
    await stub.DeleteRole(pb.DeleteRoleRequest(name=created.name, etag=updated.etag), metadata=OWNER)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await stub.GetRole(pb.GetRoleRequest(name=created.name), metadata=OWNER)
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_first_administrator_claims_a_tenant(database: Database, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.write_text("0" * 32)
    request = pb.ClaimOwnershipRequest(code="0" * 32, request_id=str(uuid.uuid4()))
    async with served(database, str(code)) as made:
        answer = await made.ClaimOwnership(request, metadata=OWNER)
        assert answer == await made.ClaimOwnership(request, metadata=OWNER)
        fresh = pb.Consistency(at_least_as_fresh=answer.consistency_token)
        checked = await made.CheckPermission(_check(TENANT, "manage_access", consistency=fresh), metadata=OWNER)
        assert checked.decision.result == pb.Decision.RESULT_ALLOWED
        for sent, metadata, reason in (
            ("1" * 32, VIEWER, "CLAIM_CODE_WRONG"),
            ("0" * 32, VIEWER, "TENANT_HAS_OWNER"),
            ("0" * 32, ELSEWHERE, "CLAIM_CODE_USED"),
            ("0", VIEWER, "VALIDATION_FAILED"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await made.ClaimOwnership(pb.ClaimOwnershipRequest(code=sent), metadata=metadata)
            assert _details(caught.value)[0] == reason
            assert sent not in str(caught.value.details()) or len(sent) == 1
    async with served(database) as without_code:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await without_code.ClaimOwnership(request, metadata=VIEWER)
        assert _details(caught.value)[0] == "CLAIM_CODE_MISSING"
