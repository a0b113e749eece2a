"""Asking about permissions: what a question may assume, and what it may not reveal."""

from datetime import timedelta

import pytest

from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.domain import Operation, Relationship
from pyairtable_mesh.permission.usecases.checks import Circumstances, Question
from pyairtable_mesh.permission.usecases.consistency import Consistency
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.database import background
from pyairtable_mesh.runtime.errors import (
    InvalidArgument,
    MeshError,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unavailable,
)
from tests.contract.stores.permission.conftest import Permissions, caller, link, member
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT_ID, WORKSPACE, members, ref

NEW_RECORD, GROUP = ref("record", "new"), ref("group")


async def allowed(permissions: Permissions, by: str, question: Question, *assumed: Relationship) -> bool:
    answer, _ = await permissions.checks.check(caller(by), question, Circumstances(assumed))
    return answer.allowed


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


@pytest.mark.parametrize("subject", [BOB, CAROL])
@pytest.mark.parametrize("by", [ALICE, BOB])
async def test_what_the_schema_does_not_have_is_said_to_whoever_asks_about_another(
    permissions: Permissions, by: str, subject: str
) -> None:
    await permissions.grant(ALICE, "editor", BASE, BOB)  # so that the engine knows him, and not Carol
    for question, reason in (
        (Question(TABLE, "bake", subject), "UNKNOWN_PERMISSION"),
        (Question(GROUP, "read", f"{subject}#member"), "UNKNOWN_RELATION"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await allowed(permissions, by, question)
        assert caught.value.reason == reason
        assert "bake" in str(caught.value) or "member" in str(caught.value)


async def test_a_batch_holds_answers_and_errors_apart(permissions: Permissions) -> None:
    questions = [Question(TABLE, "read"), Question("table:", "read"), Question(TABLE, "read", ALICE)]
    results, token = await permissions.checks.batch(caller(BOB), questions, Circumstances())
    assert isinstance(results[1], InvalidArgument)
    assert isinstance(results[0], Decision)
    assert not results[0].allowed
    assert isinstance(results[2], NotFound)
    assert token


async def test_a_token_is_bound_to_its_tenant(permissions: Permissions) -> None:
    token = permissions.tokens.of(TENANT_ID, 3)
    assert permissions.tokens.wanted(TENANT_ID, Consistency(token)) == 3
    for tenant_id, forged in (("ten" + "9" * 26, token), (TENANT_ID, token[:-2] + "AA")):
        with pytest.raises(InvalidArgument):
            permissions.tokens.wanted(tenant_id, Consistency(forged))


async def test_a_state_that_is_not_there_yet_is_not_answered_from(permissions: Permissions) -> None:
    ahead = Circumstances(consistency=Consistency(permissions.tokens.of(TENANT_ID, 1_000)))
    with pytest.raises(Unavailable):
        await permissions.checks.check(caller(BOB), Question(BASE, "read"), ahead)


async def test_every_state_of_the_window_can_be_asked_again(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members())
    tokens, expected = [], []
    for step in range(8):
        operation = Operation.DELETE if step % 2 else Operation.CREATE
        tokens.append(await permissions.write(ALICE, (operation, member(GROUP, BOB))))
        expected.append(not step % 2)
    for token, allowed_then in [*zip(tokens, expected, strict=True), *zip(tokens, expected, strict=True)][::3]:
        then = Circumstances(consistency=Consistency(token, exact=True))
        decision, of = await permissions.checks.check(caller(BOB), Question(BASE, "read"), then)
        assert (decision.allowed, of) == (allowed_then, token)


async def test_a_state_older_than_the_window_is_refused_with_the_oldest_that_is_kept(permissions: Permissions) -> None:
    first = await permissions.write(ALICE, (Operation.CREATE, member(GROUP, BOB)))
    permissions.clock.forward(timedelta(hours=2))
    await permissions.write(ALICE, (Operation.DELETE, member(GROUP, BOB)))
    async with permissions.database.transaction(background()) as transaction:
        await changelog.prune(transaction.connection, permissions.clock() - timedelta(hours=1), 1_000)
    old = Circumstances(consistency=Consistency(permissions.tokens.of(TENANT_ID, 1), exact=True))
    with pytest.raises(OutOfRange) as expired:
        await permissions.checks.check(caller(BOB), Question(BASE, "read"), old)
    assert expired.value.metadata["oldest_token"] == first
    oldest = Circumstances(consistency=Consistency(first, exact=True))
    await permissions.checks.check(caller(BOB), Question(BASE, "read"), oldest)
