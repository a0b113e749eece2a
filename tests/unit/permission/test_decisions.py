"""Which decisions the audit log gets, and that none is lost in silence."""

from datetime import timedelta

from pyairtable.common.v1 import audit_pb2
from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.maintenance import Maintenance
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.database import background
from tests.unit.permission.conftest import Permissions, caller
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT_ID, ref


async def _audited(permissions: Permissions) -> list[audit_pb2.AuditEvent]:
    events = [each for each in await permissions.events() if each.type == auditing.EVENT_TYPE]
    assert {each.tenant_id for each in events} == {TENANT_ID}
    found = [audit_pb2.AuditEvent.FromString(each.data) for each in events]
    return [each for each in found if each.HasField("authorization")]


async def test_a_decision_is_audited_with_who_asked_and_the_grant_that_allowed_it(permissions: Permissions) -> None:
    binding = (await permissions.grant(ALICE, "viewer", BASE, BOB)).role_binding
    assert await permissions.may(BOB, "read", TABLE)
    assert not await permissions.may(CAROL, "read", TABLE)
    await permissions.log.write()
    allowed, denied = await _audited(permissions)
    assert allowed.authorization == audit_pb2.AuthorizationDecision(
        subject=BOB,
        resource=TABLE,
        permission="table.read",
        answer=audit_pb2.AUTHORIZATION_ANSWER_ALLOWED,
        grant=binding.name,
        revision="3",
    )
    assert (denied.authorization.subject, denied.outcome) == (CAROL, audit_pb2.AUDIT_OUTCOME_DENIED)
    await permissions.log.write()
    assert len(await _audited(permissions)) == 2


def _denied(permissions: Permissions, tenant_id: str, times: int) -> None:
    decision = auditing.Decision(CAROL, TABLE, "table.read", "denied")
    for _ in range(times):
        permissions.log.take(caller(CAROL, tenant_id), decision)


async def test_what_does_not_fit_is_counted(permissions: Permissions) -> None:
    _denied(permissions, TENANT_ID, 25)
    assert permissions.log.dropped == {TENANT_ID: 5}
    await permissions.log.write()
    found = await _audited(permissions)
    assert len(found) == 20
    assert found[0].details["dropped_before"] == "5"
    assert not permissions.log.dropped
    _denied(permissions, TENANT_ID, 20)
    assert not permissions.log.dropped


async def test_a_tenant_cannot_ask_until_another_s_decisions_do_not_fit(permissions: Permissions) -> None:
    _denied(permissions, "ten" + "3" * 26, 25)
    _denied(permissions, TENANT_ID, 10)
    assert permissions.log.dropped == {"ten" + "3" * 26: 5}
    _denied(permissions, TENANT_ID, 3)
    await permissions.log.write()
    told = dict[str, list[str]]()
    for event in await permissions.events():
        found = audit_pb2.AuditEvent.FromString(event.data) if event.type == auditing.EVENT_TYPE else None
        if found is not None and found.HasField("authorization"):
            told.setdefault(event.tenant_id, []).append(found.details.get("dropped_before", ""))
    assert told == {"ten" + "3" * 26: ["5"] + [""] * 19, TENANT_ID: ["3"] + [""] * 9}


async def test_the_changelog_is_pruned_by_age_and_by_number(permissions: Permissions) -> None:
    for subject in (BOB, CAROL):
        await permissions.grant(ALICE, "viewer", BASE, subject)

    async def oldest() -> int:
        async with permissions.database.read(background(TENANT_ID)) as connection:
            try:
                await changelog.read(connection, TENANT_ID, 0, 100)
            except changelog.ExpiredError as error:
                return error.oldest
        return 0

    assert await oldest() == 0
    await Maintenance(permissions.database, timedelta(hours=1), 2, permissions.clock).prune()
    assert await oldest() == 2
    permissions.clock.forward(timedelta(hours=2))
    await Maintenance(permissions.database, timedelta(hours=1), 100, permissions.clock).prune()
    assert await oldest() == 4


async def test_history_is_pruned_from_its_beginning_however_clocks_differ(permissions: Permissions) -> None:
    hour = timedelta(hours=1)
    for number, ahead in enumerate((0, -3, 0, 3, -3, 3), 1):  # the clocks of the pods that write
        permissions.clock.forward(ahead * hour)
        await permissions.grant(ALICE, "viewer", BASE, ref("user", number))
        permissions.clock.forward(-ahead * hour)
    permissions.clock.forward(2 * hour)

    async def kept() -> list[int]:
        async with permissions.database.read(background(TENANT_ID)) as connection:
            try:
                tail = await changelog.read(connection, TENANT_ID, 0, 100)
            except changelog.ExpiredError as error:
                tail = await changelog.read(connection, TENANT_ID, error.oldest, 100)
        return [each.number for each in tail.revisions]

    assert await kept() == list(range(1, 9))
    maintenance = Maintenance(permissions.database, hour, 100, permissions.clock)
    await maintenance.prune()
    assert await kept() == [6, 7, 8]  # 7 is as old as what went, and 6 is not
    permissions.clock.forward(3 * hour)
    await maintenance.prune()
    assert await kept() == []
