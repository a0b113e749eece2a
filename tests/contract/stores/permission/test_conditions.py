"""Role bindings and memberships under a condition: kept as they were given, and worth nothing where nobody is sure."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from pyairtable.common.v1 import audit_pb2
from pyairtable.permission.v1 import events_pb2
from pyairtable_mesh.permission import messages
from pyairtable_mesh.permission.domain import Filter, Operation, Relationship, ScopeMode
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.platform import Loader
from pyairtable_mesh.permission.usecases.checks import Circumstances, Effective, Question
from pyairtable_mesh.permission.usecases.consistency import NEAREST, Consistency
from pyairtable_mesh.permission.usecases.lookups import Lookups, Span
from pyairtable_mesh.permission.usecases.roles import Wanted
from pyairtable_mesh.runtime.auditing import EVENT_TYPE
from pyairtable_mesh.runtime.authorization import Circumstances as Given
from pyairtable_mesh.runtime.authorization import Decision
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
)
from tests.contract.stores.permission.conftest import TENANT_SERVICE, Permissions, caller, link, member, with_request_id
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, TENANT_ID, WORKSPACE, members, ref

CREATE, TOUCH, DELETE = Operation.CREATE, Operation.TOUCH, Operation.DELETE
GROUP, OTHER = ref("group"), ref("group", 2)
OFFICE = json.dumps({"network": "10.0.0.0/8"})
INSIDE, OUTSIDE = {"address": "10.1.2.3"}, {"address": "192.168.0.1"}
HERE: Any = {"condition": "in_network", "context": OFFICE}


async def asked(permissions: Permissions, subject: str, context: dict[str, Any], resource: str = TABLE) -> Decision:
    question = Question(resource, "read", context=context)
    decision, _ = await permissions.checks.check(caller(subject), question, Circumstances())
    return decision


async def by_binding(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, BOB, **HERE)


async def by_membership(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members(1))
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB, **HERE)))


async def by_both(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members(1), **HERE)
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB, **HERE)))


WAYS = pytest.mark.parametrize("give", [by_binding, by_membership, by_both])


@WAYS
async def test_it_holds_where_its_condition_does(permissions: Permissions, give: Any) -> None:
    await give(permissions)
    assert (await asked(permissions, BOB, INSIDE)).allowed
    assert not (await asked(permissions, BOB, OUTSIDE)).allowed
    unknown = await asked(permissions, BOB, {})
    assert (unknown.allowed, unknown.missing) == (False, {"address"})
    with pytest.raises(InvalidArgument) as caught:
        await asked(permissions, BOB, {"address": "here"})
    assert caught.value.reason == "INVALID_CONTEXT"


@WAYS
async def test_every_state_has_it_also_those_that_are_loaded_or_led_back(permissions: Permissions, give: Any) -> None:
    await give(permissions)
    before = await permissions.write(ALICE, (CREATE, link(ref("record"), TABLE)))
    await permissions.write(ALICE, (TOUCH, member(GROUP, BOB)))
    for each in (await bindings(permissions))[0]:
        if each.role == "viewer":
            await permissions.revoke(ALICE, each.name)
    fresh = await Engines(permissions.database, Loader(permissions.database)).newest(TENANT_ID)
    now = permissions.clock().timestamp()
    assert not fresh.engine.check((TABLE, "read", BOB), Given(now, INSIDE)).allowed
    for context, allowed in ((INSIDE, True), (OUTSIDE, False)):
        given = Circumstances(consistency=Consistency(before, exact=True))
        decision, _ = await permissions.checks.check(caller(BOB), Question(TABLE, "read", context=context), given)
        assert decision.allowed == allowed


async def bindings(permissions: Permissions, consistency: Consistency = NEAREST) -> Any:
    return await permissions.roles.bindings(caller(ALICE), Wanted(), consistency, 10, "")


async def test_a_binding_is_read_as_it_was_given_now_and_later(permissions: Permissions) -> None:
    answer = await permissions.grant(ALICE, "viewer", BASE, BOB, **HERE)
    assert json.loads(messages.condition(answer.role_binding.condition)[1]) == json.loads(OFFICE)
    name = answer.role_binding.name
    found = await permissions.roles.binding(caller(BOB), name)
    assert (found.condition, found.context) == ("in_network", OFFICE)
    listed, _ = await bindings(permissions)
    assert found in listed
    await permissions.revoke(ALICE, name)
    past, _ = await bindings(permissions, Consistency(answer.consistency_token, exact=True))
    assert found in past


async def test_a_membership_is_read_as_it_was_given_now_and_later(permissions: Permissions) -> None:
    joined = member(GROUP, BOB, **HERE)
    token = await permissions.write(ALICE, (CREATE, joined))

    async def read(consistency: Consistency) -> list[Relationship]:
        wanted = Filter(resource=GROUP)
        return (await permissions.relationships.read(caller(ALICE), wanted, consistency, 10, None))[0]

    assert await read(NEAREST) == [joined]
    await permissions.write(ALICE, (DELETE, member(GROUP, BOB)))
    assert await read(NEAREST) == []
    assert await read(Consistency(token, exact=True)) == [joined]


async def test_a_condition_is_replaced_and_is_no_second_fact(permissions: Permissions) -> None:
    await by_membership(permissions)
    with pytest.raises(AlreadyExists):
        await permissions.write(ALICE, (CREATE, member(GROUP, BOB)))
    assert (await permissions.relationships.add(caller(ALICE), [member(GROUP, BOB)]))[0] == 0
    await permissions.write(ALICE, (TOUCH, member(GROUP, BOB)))
    assert await permissions.may(BOB, "read", TABLE)
    await permissions.write(ALICE, (TOUCH, member(GROUP, BOB, **HERE)))
    assert not await permissions.may(BOB, "read", TABLE)
    await permissions.grant(ALICE, "viewer", BASE, CAROL, **HERE)
    with pytest.raises(AlreadyExists) as caught:
        await permissions.grant(ALICE, "viewer", BASE, CAROL)
    assert caught.value.reason == "ROLE_BINDING_EXISTS"


async def test_a_repeated_request_with_another_condition_is_a_conflict(permissions: Permissions) -> None:
    first = with_request_id(caller(ALICE, method="GrantRole"), b"one")
    await permissions.grant(first, "viewer", BASE, BOB, **HERE)
    second = type(first)(
        first.method, actor=first.actor, tenant_id=first.tenant_id, request_id=first.request_id, request_digest=b"two"
    )
    with pytest.raises(MeshError) as caught:
        await permissions.grant(second, "viewer", BASE, BOB)
    assert caught.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("relationship", "field", "reason"),
    [
        (member(GROUP, BOB, condition="office_hours"), "condition", "UNKNOWN_CONDITION"),
        (link(ref("base", 2), WORKSPACE), "subject", "SUBJECT_NOT_ADMITTED"),
        (member(GROUP, members(2)), "subject", "SUBJECT_NOT_ADMITTED"),
        (member(GROUP, BOB, context='{"network": 7}'), "condition.context.network", "INVALID_CONTEXT"),
        (member(GROUP, BOB, context='{"address": "here"}'), "condition.context.address", "INVALID_CONTEXT"),
        (member(GROUP, BOB, context='{"planet": "here"}'), "condition.context", "INVALID_CONTEXT"),
    ],
)
async def test_what_the_model_does_not_have_is_refused_by_field(
    permissions: Permissions, relationship: Relationship, field: str, reason: str
) -> None:
    what = relationship.resource, relationship.relation, relationship.subject
    conditional = Relationship(*what, None, relationship.condition or "in_network", relationship.context)
    with pytest.raises(InvalidArgument) as caught:
        await permissions.write(ALICE, (CREATE, conditional))
    assert [each.field for each in caught.value.violations] == [f"updates[0].relationship.{field}"]
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("condition", "context", "field", "reason"),
    [
        ("office_hours", "", "condition", "UNKNOWN_CONDITION"),
        ("in_network", '{"network": ["10.0.0.0/8"]}', "condition.context.network", "INVALID_CONTEXT"),
        ("in_network", '{"planet": 1}', "condition.context", "INVALID_CONTEXT"),
    ],
)
async def test_a_grant_under_what_the_model_does_not_have_is_refused(
    permissions: Permissions, condition: str, context: str, field: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await permissions.grant(ALICE, "viewer", BASE, BOB, condition=condition, context=context)
    assert ([each.field for each in caught.value.violations], caught.value.reason) == ([field], reason)


async def test_a_conditional_owner_is_not_one_that_is_left(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "owner", TENANT, BOB, **HERE)
    (mine,) = [each for each in (await bindings(permissions))[0] if str(each.subject) == ALICE]
    with pytest.raises(FailedPrecondition) as caught:
        await permissions.revoke(ALICE, mine.name)
    assert caught.value.reason == "LAST_OWNER"
    await permissions.grant(ALICE, "owner", TENANT, CAROL)
    await permissions.revoke(ALICE, mine.name)


async def test_a_first_owner_is_one_whatever_happens(permissions: Permissions) -> None:
    with pytest.raises(PermissionDenied):
        await permissions.grant(TENANT_SERVICE, "owner", f"tenant:ten{'3' * 26}", BOB, **HERE)


@pytest.mark.parametrize("role", ["creator", "owner"])
@WAYS
async def test_what_is_not_sure_is_no_authority(permissions: Permissions, give: Any, role: str) -> None:
    await give(permissions)
    for subject in (BOB, members(1)):
        await permissions.grant(ALICE, role, WORKSPACE, subject, **HERE)
    with pytest.raises((PermissionDenied, NotFound)):
        await permissions.grant(BOB, "viewer", BASE, CAROL)
    with pytest.raises((PermissionDenied, NotFound)):
        await permissions.write(BOB, (CREATE, link(ref("base", 2), WORKSPACE)))
    with pytest.raises((PermissionDenied, NotFound)):
        await permissions.set_mode(BOB, BASE, ScopeMode.RESTRICT)


async def test_no_context_that_one_brings_lets_one_ask_about_others(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "creator", BASE, BOB, **HERE)
    await permissions.grant(ALICE, "viewer", BASE, CAROL)
    with pytest.raises((PermissionDenied, NotFound)):
        await permissions.checks.check(caller(BOB), Question(BASE, "read", CAROL, INSIDE), Circumstances())


async def test_what_may_override_takes_authority_away(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "creator", WORKSPACE, BOB)
    await permissions.set_mode(ALICE, BASE, ScopeMode.OVERRIDE)
    await permissions.grant(BOB, "viewer", BASE, CAROL)
    await permissions.grant(ALICE, "viewer", BASE, members(1))
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB, **HERE)))
    with pytest.raises(NotFound):
        await permissions.grant(BOB, "commenter", BASE, CAROL)


async def test_who_adds_to_a_group_gives_also_what_it_has_under_a_condition(permissions: Permissions) -> None:
    manager = await permissions.define_role("Groups", "tenant.read", "tenant.manage_groups")
    await permissions.grant(ALICE, manager, TENANT, CAROL)
    await permissions.write(CAROL, (CREATE, member(GROUP, BOB)))
    await permissions.grant(ALICE, "viewer", BASE, members(1), **HERE)
    for joined in (member(GROUP, CAROL), member(GROUP, CAROL, **HERE)):
        with pytest.raises(PermissionDenied) as caught:
            await permissions.write(CAROL, (CREATE, joined))
        assert caught.value.reason == "GRANT_EXCEEDS_OWN"


@pytest.mark.parametrize("context", [OUTSIDE, {}], ids=["false", "unknown"])
async def test_an_explanation_names_the_conditions_that_failed(
    permissions: Permissions, context: dict[str, str]
) -> None:
    await by_both(permissions)
    binding = next(each for each in (await bindings(permissions))[0] if each.condition)
    found, _ = await permissions.checks.explain(caller(ALICE), Question(TABLE, "read", BOB, context), Circumstances())
    carriers = {each.carrier for each in messages.from_explanation(found, "").failed_conditions}
    assert carriers == {binding.name, f"{members(1)}@{BOB}"}
    assert {each.missing for each in found.failed} == {frozenset() if context else frozenset({"address"})}
    assert ("in_network" in found.sentence) == bool(context)


async def test_lists_say_what_hangs_on_missing_context(permissions: Permissions) -> None:
    await by_membership(permissions)
    await permissions.grant(ALICE, "viewer", BASE, CAROL)
    lookups = Lookups(permissions.states, permissions.tokens, permissions.clock, permissions.log)
    asking = Question(TABLE, "read")
    parts = [part async for part in lookups.subjects(caller(ALICE), asking, "user", "", Circumstances(), Span())]
    found = {each.reference: each.missing for part in parts for each in part.entries}
    assert found == {ALICE: frozenset(), BOB: frozenset({"address"}), CAROL: frozenset()}


async def test_effective_permissions_tell_what_hangs_on_missing_context(permissions: Permissions) -> None:
    await by_membership(permissions)
    field = ref("field")
    await permissions.write(ALICE, (Operation.CREATE, link(field, TABLE)))
    await permissions.grant(ALICE, "viewer", field, BOB, **HERE)
    address = frozenset({"address"})

    async def effective(context: Mapping[str, Any]) -> Effective:
        found, _ = await permissions.checks.effective(caller(BOB), TABLE, "", Circumstances(), context)
        return found

    below = ["field.read", "record.read", "view.read"]
    unsure = await effective({})
    assert (unsure.verbs, unsure.below) == ([], [])
    assert unsure.conditional == dict.fromkeys([*below, "table.read"], address)
    assert unsure.fields == {field: Effective([], [], {"field.read": address}, {})}
    inside = await effective(INSIDE)
    assert (inside.verbs, inside.below, inside.conditional) == (["read"], below, {})
    assert inside.fields == {field: Effective(["read"], [], {}, {})}
    outside = await effective(OUTSIDE)
    assert (outside.verbs, outside.below, outside.conditional) == ([], [], {})


async def test_events_and_the_audit_log_tell_of_it(permissions: Permissions) -> None:
    answer = await permissions.grant(ALICE, "viewer", BASE, BOB, **HERE)
    told, audited = (await permissions.events())[-2:]
    assert audited.type == EVENT_TYPE
    (change,) = events_pb2.PermissionsChanged.FromString(told.data).changes
    assert change.role_binding == answer.role_binding
    assert change.role_binding.condition.name == "in_network"
    assert audit_pb2.AuditEvent.FromString(audited.data).details["condition"] == "in_network"


async def test_a_decision_is_audited_with_the_grant_that_it_came_through(permissions: Permissions) -> None:
    binding = (await permissions.grant(ALICE, "viewer", BASE, BOB, **HERE)).role_binding
    await asked(permissions, BOB, INSIDE)
    await permissions.log.write()
    event = (await permissions.audited())[-1]
    assert event.authorization.grant == binding.name


async def test_what_was_stored_before_there_were_conditions_holds_always(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members(1))
    row = {"tenant": TENANT_ID, "resource": GROUP, "subject": BOB}
    async with permissions.database.transaction(caller(ALICE)) as transaction:
        await transaction.connection.execute(
            text(
                "INSERT INTO relationship (tenant_id, resource, relation, subject, revision)"
                " VALUES (:tenant, :resource, 'member', :subject, 1)"
            ),
            row,
        )
    fresh = await Engines(permissions.database, Loader(permissions.database)).newest(TENANT_ID)
    assert fresh.engine.check((TABLE, "read", BOB), Given(permissions.clock().timestamp())).allowed


async def test_a_contextual_membership_may_be_under_a_condition(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members(2))
    for joined, allowed in ((member(OTHER, ALICE, **HERE), True), (member(OTHER, ALICE, condition="none"), None)):
        asking = permissions.checks.check(
            caller(ALICE), Question(TABLE, "read", context=INSIDE), Circumstances([joined])
        )
        if allowed:
            assert (await asking)[0].allowed
        else:
            with pytest.raises(InvalidArgument):
                await asking
