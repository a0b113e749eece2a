"""Every implemented RPC refuses bad input, what the caller may not, and who has no token, with typed errors."""

from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission.servicer import ACCESS
from tests.contract.permission.requests import (
    GROUP,
    OWNER,
    STRANGER,
    VIEWER,
    Stub,
    check,
    condition,
    grant,
    update,
    write,
)
from tests.contract.permission.serving import Metadata, bearer, details_of
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, ref

BINDING = "roleBindings/rbn" + "0" * 26
NO_SPACE = "modelSpaces/spc" + "0" * 26


BAD = [
    ("CheckPermission", check("base", "read"), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["resource"]),
    ("CheckPermission", check("cake:x", "read"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_TYPE", ["resource"]),
    ("CheckPermission", check("base:x", "read"), OWNER, "INVALID_ARGUMENT", "MALFORMED_REFERENCE", ["resource"]),
    ("CheckPermission", check(BASE, "bake"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_PERMISSION", ["permission"]),
    ("CheckPermission", check(BASE, "read", f"{BASE}#x"), OWNER, "INVALID_ARGUMENT", "UNKNOWN_RELATION", ["subject"]),
    (
        "CheckPermission",
        check(BASE, "read", space="modelSpaces/spc" + "0" * 26),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_MODEL_SPACE",
        ["space"],
    ),
    (
        "CheckPermission",
        check(BASE, "read", consistency=pb.Consistency(at_least_as_fresh="forged")),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONSISTENCY_TOKEN",
        ["consistency.at_least_as_fresh"],
    ),
    ("CheckPermission", check(BASE, "read", ALICE), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    ("CheckPermission", check(BASE, "read", ALICE), STRANGER, "NOT_FOUND", "NOT_FOUND", []),
    (
        "CheckPermission",
        check(
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
        write(update(GROUP, "member", "robot:x")),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_TYPE",
        ["updates[0].relationship.subject"],
    ),
    (
        "WriteRelationships",
        write(pb.RelationshipUpdate(relationship=pb.Relationship(resource=GROUP, relation="member", subject=BOB))),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["updates[0].operation"],
    ),
    (
        "WriteRelationships",
        write(update(BASE, "workspace", ref("workspace", 2))),
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
    ("GrantRole", grant("roles/viewer", BASE, BOB), OWNER, "ALREADY_EXISTS", "ROLE_BINDING_EXISTS", []),
    ("GrantRole", grant("roles/boss", BASE, BOB), OWNER, "INVALID_ARGUMENT", "VALIDATION_FAILED", ["role"]),
    ("GrantRole", grant("roles/viewer", BASE, TABLE), OWNER, "INVALID_ARGUMENT", "SUBJECT_NOT_ADMITTED", ["subject"]),
    ("GrantRole", grant("roles/viewer", BASE, CAROL), VIEWER, "PERMISSION_DENIED", "PERMISSION_DENIED", []),
    (
        "GrantRole",
        grant("roles/viewer", BASE, CAROL, expire_time=timestamp_pb2.Timestamp(seconds=1)),
        OWNER,
        "INVALID_ARGUMENT",
        "TIME_IN_PAST",
        ["expire_time"],
    ),
    (
        "GrantRole",
        grant("roles/viewer", BASE, CAROL, expire_time=timestamp_pb2.Timestamp(seconds=1 << 60)),
        OWNER,
        "INVALID_ARGUMENT",
        "VALIDATION_FAILED",
        ["expire_time"],
    ),
    (
        "GrantRole",
        grant("roles/viewer", BASE, CAROL, condition=pb.ConditionReference(name="office_hours")),
        OWNER,
        "INVALID_ARGUMENT",
        "UNKNOWN_CONDITION",
        ["condition"],
    ),
    (
        "GrantRole",
        grant("roles/viewer", BASE, CAROL, condition=condition(network=7)),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONTEXT",
        ["condition.context.network"],
    ),
    (
        "WriteRelationships",
        write(update(TABLE, "base", BASE, condition=condition())),
        OWNER,
        "INVALID_ARGUMENT",
        "SUBJECT_NOT_ADMITTED",
        ["updates[0].relationship.subject"],
    ),
    (
        "WriteRelationships",
        write(update(GROUP, "member", CAROL, condition=condition(planet="here"))),
        OWNER,
        "INVALID_ARGUMENT",
        "INVALID_CONTEXT",
        ["updates[0].relationship.condition.context"],
    ),
    ("GrantRole", grant("roles/owner", TENANT, BOB), bearer("user"), "PERMISSION_DENIED", "WORKLOAD_NOT_ALLOWED", []),
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
        assert details_of(caught.value) == (reason, fields), where


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
