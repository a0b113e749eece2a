"""The first administrator's code: one owner of one tenant, whoever else guesses, races or comes back."""

import asyncio
from datetime import timedelta

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.permission import messages, schema
from pyairtable_mesh.permission.usecases.ownership import MAX_FAILURES, WINDOW, Ownership
from pyairtable_mesh.runtime.auditing import EVENT_TYPE
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import FailedPrecondition, MeshError, PermissionDenied, ResourceExhausted
from pyairtable_mesh.runtime.idempotency import Replayed
from tests.contract.stores.permission.conftest import TENANT_SERVICE, Clock, Permissions, caller, with_request_id
from tests.unit.permission.world import ALICE, BOB, CAROL, TENANT, TENANT_ID

CODE, ANOTHER, WRONG = "a" * 32, "b" * 32, "c" * 32
ELSEWHERE = "ten" + "2" * 26


@pytest.fixture
def unowned(database: Database, clock: Clock) -> Permissions:
    """A tenant without an owner."""
    return Permissions(database, clock)


async def claim(
    permissions: Permissions,
    by: str | RequestContext,
    code: str = CODE,
    tenant_id: str = TENANT_ID,
    expected: str = CODE,
) -> pb.ClaimOwnershipResponse:
    async def read() -> str:
        return expected

    ownership = Ownership(permissions.database, permissions.acts, read)
    context = by if isinstance(by, RequestContext) else caller(by, tenant_id, method="ClaimOwnership")
    return await ownership.claim(
        context,
        code,
        lambda binding, token: pb.ClaimOwnershipResponse(
            role_binding=messages.from_binding(binding), consistency_token=token
        ),
    )


async def refused(permissions: Permissions, by: str, kind: type[MeshError], reason: str, **how: str) -> MeshError:
    with pytest.raises(kind) as caught:
        await claim(permissions, by, **how)
    assert caught.value.reason == reason
    return caught.value


async def test_who_has_the_code_owns_the_tenant_from_then_on(unowned: Permissions) -> None:
    answer = await claim(unowned, ALICE)
    binding = answer.role_binding
    assert (binding.role, binding.resource, binding.subject) == ("roles/owner", TENANT, ALICE)
    assert await unowned.may(ALICE, "delete", TENANT)
    await unowned.grant(ALICE, schema.OWNER, TENANT, BOB)


async def test_a_claim_is_announced_and_audited_without_the_code(unowned: Permissions) -> None:
    await claim(unowned, ALICE)
    events = await unowned.events()
    assert [event.type for event in events] == ["permission.role_binding.granted", EVENT_TYPE]
    assert not any(CODE.encode() in event.data for event in events)


async def test_the_code_works_once_in_the_installation(unowned: Permissions) -> None:
    await claim(unowned, ALICE)
    await refused(unowned, BOB, FailedPrecondition, "CLAIM_CODE_USED", tenant_id=ELSEWHERE)
    await refused(unowned, BOB, FailedPrecondition, "TENANT_HAS_OWNER")
    await claim(unowned, BOB, ANOTHER, ELSEWHERE, expected=ANOTHER)
    assert await unowned.may(BOB, "delete", f"tenant:{ELSEWHERE}", ELSEWHERE)


async def test_who_owns_the_tenant_is_told_so_and_leaves_the_code_alone(unowned: Permissions) -> None:
    granted = await unowned.grant(TENANT_SERVICE, schema.OWNER, TENANT, ALICE)
    await refused(unowned, ALICE, PermissionDenied, "CLAIM_CODE_WRONG", code=WRONG)
    assert (await claim(unowned, ALICE)).role_binding == granted.role_binding
    first = await claim(unowned, BOB, tenant_id=ELSEWHERE)
    assert (await claim(unowned, BOB, tenant_id=ELSEWHERE)).role_binding == first.role_binding


async def test_a_refused_claim_does_not_use_the_code_up(unowned: Permissions) -> None:
    await unowned.grant(TENANT_SERVICE, schema.OWNER, TENANT, ALICE)
    await refused(unowned, BOB, FailedPrecondition, "TENANT_HAS_OWNER")
    await claim(unowned, BOB, tenant_id=ELSEWHERE)


@pytest.mark.parametrize("second", [TENANT_ID, ELSEWHERE], ids=["of one tenant", "of two tenants"])
async def test_of_two_claims_at_once_one_wins(unowned: Permissions, second: str) -> None:
    claims = claim(unowned, ALICE), claim(unowned, BOB, tenant_id=second)
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sorted(type(each).__name__ for each in results) == ["ClaimOwnershipResponse", "FailedPrecondition"]
    owned = [await unowned.may(ALICE, "delete", TENANT), await unowned.may(BOB, "delete", f"tenant:{second}", second)]
    assert owned.count(True) == 1


async def test_a_repeated_claim_gets_the_first_answer(unowned: Permissions) -> None:
    request = with_request_id(caller(ALICE, method="ClaimOwnership"))
    first = await claim(unowned, request)
    with pytest.raises(Replayed) as caught:
        await claim(unowned, request)
    assert caught.value.response == first.SerializeToString()


async def test_without_a_code_nobody_can_claim(unowned: Permissions) -> None:
    await refused(unowned, ALICE, FailedPrecondition, "CLAIM_CODE_MISSING", expected="")


async def test_guesses_are_few_and_the_guessers_own(unowned: Permissions, clock: Clock) -> None:
    for _ in range(MAX_FAILURES):
        await refused(unowned, CAROL, PermissionDenied, "CLAIM_CODE_WRONG", code=WRONG)
        clock.forward(timedelta(minutes=1))
    denied = [event for event in await unowned.events() if event.type == EVENT_TYPE]
    assert len(denied) == MAX_FAILURES
    for code in WRONG, CODE:
        error = await refused(unowned, CAROL, ResourceExhausted, "TOO_MANY_CLAIMS", code=code)
        assert isinstance(error, ResourceExhausted)
        assert error.retry_after == WINDOW - timedelta(minutes=MAX_FAILURES)
    clock.forward(WINDOW - timedelta(minutes=MAX_FAILURES))
    await refused(unowned, CAROL, PermissionDenied, "CLAIM_CODE_WRONG", code=WRONG)
    await refused(unowned, CAROL, ResourceExhausted, "TOO_MANY_CLAIMS")
    await claim(unowned, ALICE)


async def test_guesses_at_once_are_counted_one_by_one(unowned: Permissions) -> None:
    guesses = (claim(unowned, CAROL, WRONG) for _ in range(MAX_FAILURES + 5))
    results = await asyncio.gather(*guesses, return_exceptions=True)
    names = [type(each).__name__ for each in results]
    assert (names.count("PermissionDenied"), names.count("ResourceExhausted")) == (MAX_FAILURES, 5)
