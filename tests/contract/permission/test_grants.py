"""Grants, roles and relationships as they are changed and listed, and the first administrator."""

import uuid
from pathlib import Path

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime.database import Database
from tests.contract.permission.requests import (
    ELSEWHERE,
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
from tests.contract.permission.serving import reason_of, served
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, members, ref


async def test_a_retried_grant_is_answered_alike(stub: Stub) -> None:
    request = grant("roles/editor", BASE, members(), request_id=str(uuid.uuid4()))
    first, second = [await stub.GrantRole(request, metadata=OWNER) for _ in range(2)]
    assert first == second
    another = pb.GrantRoleRequest()
    another.CopyFrom(request)
    another.condition.CopyFrom(condition(network="::/0"))
    request.subject = BOB
    for reused in (request, another):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GrantRole(reused, metadata=OWNER)
        assert reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_what_is_given_under_a_condition_is_answered_and_read_as_such(stub: Stub) -> None:
    inside = condition(network="10.0.0.0/8")
    granted = await stub.GrantRole(grant("roles/editor", BASE, members(), condition=inside), metadata=OWNER)
    binding = granted.role_binding
    assert binding.condition == inside
    joined = update(GROUP, "member", CAROL, condition=inside)
    await stub.WriteRelationships(write(joined), metadata=OWNER)
    results = []
    for address in ("10.1.1.1", "192.168.0.1", ""):
        request = check(TABLE, "create_record")
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
        await stub.GrantRole(grant("roles/viewer", TABLE, BOB), metadata=STRANGER)
    assert caught.value.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED}


async def test_lists_are_paged_without_loss(stub: Stub) -> None:
    users = [ref("user", number) for number in range(5)]
    joined = [update(GROUP, "member", user) for user in users]
    await stub.WriteRelationships(write(*joined), metadata=OWNER)
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
        assert reason_of(caught.value) == reason
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
        checked = await made.CheckPermission(check(TENANT, "manage_access", consistency=fresh), metadata=OWNER)
        assert checked.decision.result == pb.Decision.RESULT_ALLOWED
        for sent, metadata, reason in (
            ("1" * 32, VIEWER, "CLAIM_CODE_WRONG"),
            ("0" * 32, VIEWER, "TENANT_HAS_OWNER"),
            ("0" * 32, ELSEWHERE, "CLAIM_CODE_USED"),
            ("0", VIEWER, "VALIDATION_FAILED"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await made.ClaimOwnership(pb.ClaimOwnershipRequest(code=sent), metadata=metadata)
            assert reason_of(caught.value) == reason
            assert sent not in str(caught.value.details()) or len(sent) == 1
    async with served(database) as without_code:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await without_code.ClaimOwnership(request, metadata=VIEWER)
        assert reason_of(caught.value) == "CLAIM_CODE_MISSING"
