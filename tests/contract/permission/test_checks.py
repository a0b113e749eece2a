"""Questions to the platform: one and many, why, how fresh, and all that a subject may."""

import grpc
import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from tests.contract.permission.requests import ELSEWHERE, FIELD, OWNER, STRANGER, VIEWER, Stub, check, grant
from tests.contract.permission.serving import reason_of
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, WORKSPACE, ref


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
        checked = await stub.CheckPermission(check(TABLE, verb), metadata=metadata)
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
    before = (await stub.CheckPermission(check(BASE, "read"), metadata=VIEWER)).decision.consistency_token
    now = pb.Consistency(at_exact_snapshot=before)
    assert (await stub.CheckPermission(check(BASE, "read", consistency=now), metadata=VIEWER)).decision.result
    granted = await stub.GrantRole(grant("roles/editor", BASE, BOB), metadata=OWNER)
    fresh = pb.Consistency(at_least_as_fresh=granted.consistency_token)
    seen = await stub.CheckPermission(check(TABLE, "create_record", consistency=fresh), metadata=VIEWER)
    assert seen.decision.result == pb.Decision.RESULT_ALLOWED
    then = await stub.CheckPermission(check(TABLE, "create_record", consistency=now), metadata=VIEWER)
    assert then.decision == pb.Decision(result=pb.Decision.RESULT_DENIED, consistency_token=before)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CheckPermission(check(BASE, "read", consistency=fresh), metadata=ELSEWHERE)
    assert reason_of(caught.value) == "INVALID_CONSISTENCY_TOKEN"


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
