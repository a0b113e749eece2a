"""What is kept of claims to be a tenant's first owner: which codes were used, and who guessed lately."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pyairtable_mesh.permission.tables import CLAIM, FAILED_CLAIM
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.columns import insert_missing


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a tenant, inside of a transaction."""

    connection: AsyncConnection
    tenant_id: str
    now: datetime

    async def use(self, code_hash: str) -> bool:
        """Mark a code as used; False when it is already, in whichever tenant."""
        values = {"code_hash": code_hash, "tenant": self.tenant_id, "create_time": self.now}
        return (await self.connection.execute(insert_missing(CLAIM), values)).rowcount == 1

    async def failures(self, subject: str, since: datetime) -> list[datetime]:
        """When `subject` gave a wrong code, oldest first."""
        columns = FAILED_CLAIM.c
        recent = select(columns.create_time).where(
            columns.tenant_id == self.tenant_id, columns.create_time > since, columns.subject == subject
        )
        return list((await self.connection.execute(recent.order_by(columns.create_time))).scalars())

    async def add_failure(self, subject: str, since: datetime) -> None:
        """Remember a wrong code, and forget the tenant's that are as old as `since`."""
        columns = FAILED_CLAIM.c
        old = delete(FAILED_CLAIM).where(columns.tenant_id == self.tenant_id, columns.create_time <= since)
        await self.connection.execute(old)
        values = {
            "tenant_id": self.tenant_id,
            "claim_id": ids.new_id("clm"),
            "subject": subject,
            "create_time": self.now,
        }
        await self.connection.execute(insert(FAILED_CLAIM), values)
