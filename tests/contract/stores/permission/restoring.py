"""A database that is put back to what it was, and goes another way from there."""

from datetime import timedelta

from pyairtable_mesh.permission.tables import CHANGELOG, REVISION, ROLE_BINDING
from tests.contract.stores.permission.conftest import Permissions, caller
from tests.unit.permission.world import ALICE, CAROL, TENANT_ID, ref


async def restore(permissions: Permissions, revision: int) -> None:
    """Put the database back to a revision behind which only roles were granted."""
    async with permissions.database.transaction(caller(ALICE)) as transaction:
        for table in (CHANGELOG, ROLE_BINDING):
            await transaction.connection.execute(table.delete().where(table.c.revision > revision))
        await transaction.connection.execute(REVISION.update().values(revision=revision))


async def overtaken(permissions: Permissions, other: Permissions, restored: int, revision: int) -> None:
    """Put the database back, and have another process, which knows nothing of it, come to `revision` again."""
    await restore(permissions, restored)
    permissions.clock.forward(timedelta(minutes=1))
    await other.engines.newest(TENANT_ID)
    while (await other.engines.newest(TENANT_ID)).revision < revision:
        await other.grant(ALICE, "viewer", ref("workspace", f"w{revision}{permissions.clock.now.minute}"), CAROL)
        permissions.clock.forward(timedelta(minutes=1))
