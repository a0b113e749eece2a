"""Writing and reading relationships: atomic, guarded, and never a way to more than one has."""

from datetime import timedelta

import pytest

from pyairtable.common.v1 import audit_pb2
from pyairtable.permission.v1 import events_pb2
from pyairtable_mesh.permission.domain import Filter, Operation, Precondition, Relationship
from pyairtable_mesh.permission.usecases.consistency import NEAREST
from pyairtable_mesh.runtime.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
)
from pyairtable_mesh.runtime.idempotency import Replayed
from tests.contract.stores.permission.conftest import Permissions, caller, link, member, with_request_id
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT, WORKSPACE, members, ref

CREATE, TOUCH, DELETE = Operation.CREATE, Operation.TOUCH, Operation.DELETE
GROUP, BASE_2, WORKSPACE_2 = ref("group"), ref("base", 2), ref("workspace", 2)


async def read(permissions: Permissions, by: str, wanted: Filter, size: int = 10) -> list[Relationship]:
    found, _ = await permissions.relationships.read(caller(by), wanted, NEAREST, size, None)
    return found


async def test_a_write_is_all_or_nothing(permissions: Permissions) -> None:
    with pytest.raises(AlreadyExists) as caught:
        await permissions.write(ALICE, (CREATE, link(BASE_2, WORKSPACE)), (CREATE, link(BASE, WORKSPACE)))
    assert caught.value.reason == "RELATIONSHIP_EXISTS"
    assert await read(permissions, ALICE, Filter(resource_type="base")) == [link(BASE, WORKSPACE)]


async def test_touch_and_delete_may_be_repeated(permissions: Permissions) -> None:
    for _ in range(2):
        await permissions.write(ALICE, (TOUCH, member(GROUP, BOB)))
    assert await read(permissions, ALICE, Filter(resource=GROUP)) == [member(GROUP, BOB)]
    for _ in range(2):
        await permissions.write(ALICE, (DELETE, member(GROUP, BOB)))
    assert await read(permissions, ALICE, Filter(resource=GROUP)) == []


@pytest.mark.parametrize(("must_match", "found"), [(True, True), (True, False), (False, True), (False, False)])
async def test_preconditions(permissions: Permissions, must_match: bool, found: bool) -> None:
    looked_for = Filter(resource=BASE, relation="workspace", subject=WORKSPACE if found else WORKSPACE_2)
    precondition = Precondition(looked_for, must_match)
    write = permissions.write(ALICE, (CREATE, member(GROUP, BOB)), preconditions=[precondition])
    if must_match == found:
        await write
    else:
        with pytest.raises(FailedPrecondition) as caught:
            await write
        assert caught.value.reason == "PRECONDITION_FAILED"
    assert bool(await read(permissions, ALICE, Filter(resource=GROUP))) == (must_match == found)


async def test_a_child_has_one_parent_and_moves_in_one_write(permissions: Permissions) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await permissions.write(ALICE, (CREATE, link(BASE, WORKSPACE_2)))
    assert caught.value.reason == "RESOURCE_HAS_PARENT"
    with pytest.raises(FailedPrecondition):
        await permissions.write(ALICE, (CREATE, link(BASE_2, WORKSPACE)), (CREATE, link(BASE_2, WORKSPACE_2)))
    await permissions.grant(ALICE, "viewer", WORKSPACE_2, BOB)
    assert not await permissions.may(BOB, "read", TABLE)
    await permissions.write(ALICE, (DELETE, link(BASE, WORKSPACE)), (CREATE, link(BASE, WORKSPACE_2)))
    assert await permissions.may(BOB, "read", TABLE)


@pytest.mark.parametrize(
    ("role", "at", "operation", "relationship", "error"),
    [
        ("creator", WORKSPACE, CREATE, link(BASE_2, WORKSPACE), None),
        ("editor", WORKSPACE, CREATE, link(BASE_2, WORKSPACE), PermissionDenied),
        ("", WORKSPACE, CREATE, link(BASE_2, WORKSPACE), NotFound),
        ("editor", TABLE, CREATE, link(ref("record"), TABLE), None),
        ("viewer", TABLE, CREATE, link(ref("record"), TABLE), PermissionDenied),
        ("creator", BASE, DELETE, link(TABLE, BASE), None),
        ("editor", BASE, DELETE, link(TABLE, BASE), PermissionDenied),
        ("creator", TENANT, CREATE, member(GROUP, BOB), PermissionDenied),
        ("owner", TENANT, CREATE, member(GROUP, BOB), None),
        ("", BASE, DELETE, link(ref("table", 9), BASE), None),
    ],
)
async def test_who_may_write(
    permissions: Permissions,
    role: str,
    at: str,
    operation: Operation,
    relationship: Relationship,
    error: type[MeshError] | None,
) -> None:
    if role:
        await permissions.grant(ALICE, role, at, BOB)
    if error is None:
        await permissions.write(BOB, (operation, relationship))
    else:
        with pytest.raises(error):
            await permissions.write(BOB, (operation, relationship))


@pytest.mark.parametrize("by_rows", [False, True], ids=["by-the-engine", "by-the-rows"])
async def test_a_child_is_attached_below_what_the_same_write_attaches(permissions: Permissions, by_rows: bool) -> None:
    await permissions.grant(ALICE, "creator", BASE, BOB)
    await permissions.grant(ALICE, "viewer", BASE, CAROL)
    table, record = ref("table", 9), ref("record", 9)
    links = [(CREATE, link(record, table)), (CREATE, link(table, BASE))]

    def writer() -> Permissions:
        return Permissions(permissions.database, permissions.clock) if by_rows else permissions

    with pytest.raises((PermissionDenied, NotFound)):
        await writer().write(CAROL, *links)
    await writer().write(BOB, *links)
    assert await writer().may(CAROL, "read", record)


async def test_a_member_is_not_given_more_than_the_giver_has(permissions: Permissions) -> None:
    await permissions.write(ALICE, (CREATE, member(GROUP, members(2))))
    await permissions.grant(ALICE, "owner", WORKSPACE, members(1))
    manager = await permissions.define_role("Groups", "tenant.manage_groups", "tenant.read", "group.read")
    await permissions.grant(ALICE, manager, TENANT, BOB)
    await permissions.write(BOB, (CREATE, member(ref("group", 3), BOB)))
    for group in (GROUP, ref("group", 2)):
        with pytest.raises(PermissionDenied) as caught:
            await permissions.write(BOB, (CREATE, member(group, BOB)))
        assert caught.value.reason == "GRANT_EXCEEDS_OWN"
    assert not await permissions.may(BOB, "read", WORKSPACE)


async def test_an_expired_membership_counts_for_nothing_and_can_be_made_anew(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "viewer", BASE, members())
    expiring = member(GROUP, BOB, permissions.clock.now + timedelta(hours=1))
    await permissions.write(ALICE, (CREATE, expiring))
    assert await permissions.may(BOB, "read", BASE)
    permissions.clock.forward(timedelta(hours=1))
    assert not await permissions.may(BOB, "read", BASE)
    assert await read(permissions, ALICE, Filter(resource=GROUP)) == []
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB)))
    assert await permissions.may(BOB, "read", BASE)


@pytest.mark.parametrize(
    ("relationship", "field", "reason"),
    [
        (member(BASE, BOB), "updates[0].relationship.relation", "UNKNOWN_RELATION"),
        (member(GROUP, WORKSPACE), "updates[0].relationship.subject", "SUBJECT_NOT_ADMITTED"),
        (member(GROUP, "user:*"), "updates[0].relationship.subject", "SUBJECT_NOT_ADMITTED"),
    ],
)
async def test_what_the_schema_does_not_admit_is_refused_by_field(
    permissions: Permissions, relationship: Relationship, field: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await permissions.write(ALICE, (CREATE, relationship))
    assert [violation.field for violation in caught.value.violations] == [field]
    assert caught.value.reason == reason


async def test_one_write_changes_a_relationship_once(permissions: Permissions) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await permissions.write(ALICE, (CREATE, member(GROUP, BOB)), (DELETE, member(GROUP, BOB)))
    assert caught.value.violations[0].field == "updates[1].relationship"


async def test_a_filter_deletes_what_it_matches(permissions: Permissions) -> None:
    joined = [member(GROUP, each) for each in (BOB, CAROL, members(2))]
    await permissions.write(ALICE, *((CREATE, each) for each in joined))
    delete = permissions.relationships.delete
    wanted = Filter(resource=GROUP, subject_type="user")
    with pytest.raises(PermissionDenied):
        await delete(caller(BOB), wanted, [], lambda count, token: events_pb2.PermissionsChanged())
    counts: list[int] = []
    await delete(caller(ALICE), wanted, [], lambda count, _: counts.append(count) or events_pb2.PermissionsChanged())
    assert counts == [2]
    assert await read(permissions, ALICE, Filter(resource=GROUP)) == [member(GROUP, members(2))]


async def test_who_may_read(permissions: Permissions) -> None:
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB)))
    assert await read(permissions, BOB, Filter(subject=BOB)) == [member(GROUP, BOB)]
    with pytest.raises(PermissionDenied):
        await read(permissions, BOB, Filter(relation="member"))
    with pytest.raises(NotFound):
        await read(permissions, BOB, Filter(resource=GROUP))
    await permissions.grant(ALICE, "viewer", GROUP, BOB)
    assert await read(permissions, BOB, Filter(resource=GROUP)) == [member(GROUP, BOB)]


async def test_a_precondition_shows_nothing_that_its_writer_may_not_read(permissions: Permissions) -> None:
    await permissions.grant(ALICE, "creator", WORKSPACE_2, BOB)
    probe = Precondition(Filter(resource=BASE), must_match=True)
    with pytest.raises(NotFound):
        await permissions.write(BOB, (CREATE, link(BASE_2, WORKSPACE_2)), preconditions=[probe])


async def test_a_repeated_request_is_answered_and_not_done_again(permissions: Permissions) -> None:
    once = with_request_id(caller(ALICE))
    token = await permissions.write(once, (CREATE, member(GROUP, BOB)))
    with pytest.raises(Replayed) as replayed:
        await permissions.write(once, (CREATE, member(GROUP, BOB)))
    assert token.encode() in replayed.value.response


async def test_tenants_do_not_meet(permissions: Permissions) -> None:
    other = ref("tenant", 2).removeprefix("tenant:")
    await permissions.write(ALICE, (CREATE, member(GROUP, ALICE)))
    stranger = caller(ALICE, other)
    found, _ = await permissions.relationships.read(stranger, Filter(subject=ALICE), NEAREST, 10, None)
    assert found == []
    await permissions.write(stranger, (DELETE, member(GROUP, ALICE)))
    assert await read(permissions, ALICE, Filter(resource=GROUP)) == [member(GROUP, ALICE)]
    with pytest.raises(PermissionDenied):
        await permissions.write(stranger, (CREATE, member(GROUP, BOB)))
    assert not await permissions.may(ALICE, "read", BASE, other)


async def test_changes_and_refusals_are_announced_with_the_change(permissions: Permissions) -> None:
    await permissions.write(ALICE, (CREATE, member(GROUP, BOB)))
    with pytest.raises(PermissionDenied):
        await permissions.write(BOB, (CREATE, member(GROUP, CAROL)))
    *_, written, audited, refused = await permissions.events()
    assert written.type == "permission.relationships.written"
    (change,) = events_pb2.PermissionsChanged.FromString(written.data).changes
    assert (change.relationship.resource, change.relationship.subject) == (GROUP, BOB)
    entries = [audit_pb2.AuditEvent.FromString(each.data) for each in (audited, refused)]
    assert [each.outcome for each in entries] == [
        audit_pb2.AUDIT_OUTCOME_SUCCEEDED,
        audit_pb2.AUDIT_OUTCOME_DENIED,
    ]
    assert [each.resource for each in entries] == [GROUP, TENANT]
