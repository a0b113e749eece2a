"""Which decisions the audit log gets, and that none is lost in silence."""

from datetime import timedelta

from pyairtable.common.v1 import audit_pb2
from pyairtable_mesh.permission import changelog
from pyairtable_mesh.permission.maintenance import Maintenance
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.database import background
from tests.unit.permission.conftest import Permissions
from tests.unit.permission.world import ALICE, BASE, BOB, CAROL, TABLE, TENANT_ID


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


async def test_what_does_not_fit_is_counted(permissions: Permissions) -> None:
    for _ in range(25):
        await permissions.may(CAROL, "read", TABLE)
    assert permissions.log.dropped == 5
    await permissions.log.write()
    found = await _audited(permissions)
    assert len(found) == 20
    assert found[0].details["dropped_before"] == "5"
    assert permissions.log.dropped == 0


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
