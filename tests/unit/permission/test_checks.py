"""Asking about permissions: what a question may assume, and what it may not reveal."""

import pytest

from pyairtable_mesh.permission.domain import Operation, Relationship
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import Consistency
from pyairtable_mesh.runtime.errors import (
    InvalidArgument,
    MeshError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unavailable,
)
from tests.unit.permission.conftest import Permissions, caller, link, member
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT_ID, WORKSPACE, members, ref

NEW_RECORD, GROUP = ref("record", "new"), ref("group")


async def allowed(permissions: Permissions, by: str, question: Question, *assumed: Relationship) -> bool:
    answer, _ = await permissions.checks.check(caller(by), question, Circumstances(assumed))
    return answer


async def test_what_is_not_stored_yet_can_be_assumed(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "editor", WORKSPACE, BOB)
    question = Question(NEW_RECORD, "update")
    assert not await allowed(permissions, BOB, question)
    assert await allowed(permissions, BOB, question, link(NEW_RECORD, TABLE))
    assert not await allowed(permissions, BOB, question)


async def test_assumptions_reveal_nothing_about_groups_or_others(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "owner", BASE, members())
    joined = member(GROUP, BOB)
    with pytest.raises(PermissionDenied):
        await allowed(permissions, BOB, Question(BASE, "read"), joined)
    assert await allowed(permissions, ALICE, Question(BASE, "delete", BOB), joined)
    elsewhere = ref("workspace", 2)
    await permissions.grant(ALICE, "owner", elsewhere, BOB)
    with pytest.raises(NotFound):
        await allowed(permissions, BOB, Question(BASE, "read", CAROL), link(BASE, elsewhere))


async def test_an_assumption_that_could_not_be_stored_is_refused(permissions: Permissions) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await allowed(permissions, ALICE, Question(BASE, "read"), link(NEW_RECORD, BASE))
    assert caught.value.violations[0].field == "contextual_relationships[0].relation"


@pytest.mark.parametrize(("role", "error"), [("", NotFound), ("editor", PermissionDenied), ("creator", None)])
async def test_who_may_ask_about_another(permissions: Permissions, role: str, error: type[MeshError] | None) -> None:
    if role:
        await permissions.grant(ALICE, role, BASE, BOB)
    question = Question(TABLE, "read", CAROL)
    if error is None:
        assert not await allowed(permissions, BOB, question)
    else:
        with pytest.raises(error):
            await allowed(permissions, BOB, question)


async def test_a_batch_holds_answers_and_errors_apart(permissions: Permissions) -> None:
    questions = [Question(TABLE, "read"), Question("table:", "read"), Question(TABLE, "read", ALICE)]
    results, token = await permissions.checks.batch(caller(BOB), questions, Circumstances())
    assert isinstance(results[1], InvalidArgument)
    assert results[0] is False
    assert isinstance(results[2], NotFound)
    assert token


async def test_a_token_is_bound_to_its_tenant_and_its_moment(permissions: Permissions) -> None:
    tokens = permissions.tokens
    token = tokens.of(TENANT_ID, 3)
    tokens.require(Consistency(token), TENANT_ID, 4)
    tokens.require(Consistency(token, exact=True), TENANT_ID, 3)
    with pytest.raises(InvalidArgument):
        tokens.require(Consistency(token), "ten" + "9" * 26, 4)
    with pytest.raises(InvalidArgument):
        tokens.require(Consistency(token[:-2] + "AA"), TENANT_ID, 4)
    with pytest.raises(Unavailable):
        tokens.require(Consistency(token), TENANT_ID, 2)
    with pytest.raises(OutOfRange) as expired:
        tokens.require(Consistency(token, exact=True), TENANT_ID, 4)
    tokens.require(Consistency(expired.value.metadata["oldest_token"], exact=True), TENANT_ID, 4)


async def test_each_write_has_a_newer_token(permissions: Permissions) -> None:
    first = await permissions.write(ALICE, (Operation.CREATE, member(GROUP, BOB)))
    second = await permissions.write(ALICE, (Operation.DELETE, member(GROUP, BOB)))
    fresh = Circumstances(consistency=Consistency(second, exact=True))
    await permissions.checks.check(caller(BOB), Question(BASE, "read"), fresh)
    stale = Circumstances(consistency=Consistency(first, exact=True))
    with pytest.raises(OutOfRange):
        await permissions.checks.check(caller(BOB), Question(BASE, "read"), stale)
