"""What can be done with the audit log: append, list, tail, verify."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from pyairtable_mesh.audit import domain
from pyairtable_mesh.audit.domain import Draft, Head, Link, Position
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.verification import Break, Verifier
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.authorizer import Authorizer
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, Transaction
from pyairtable_mesh.runtime.errors import PermissionDenied
from pyairtable_mesh.runtime.filters import Filter
from pyairtable_mesh.runtime.signals import Signal

READ_PERMISSION = "read_audit"
TAIL_BATCH = 50
"""Events of the largest size in one response stay below gRPC's 4 MiB."""
POLL_SECONDS = 1.0
RECHECK_SECONDS = 30.0
VERIFY_BATCH = 200
APPEND_BATCH = 200
"""Links that are made in one turn of the event loop, and written by one statement."""
_SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. `last` is the end of what was verified, None of an empty range."""

    verified: int
    erased: int
    last: Position | None
    broken: Break | None


class AuditLog:
    """The log of every tenant, in one database."""

    def __init__(
        self, database: Database, store: Store, authorizer: Authorizer, leaving: asyncio.Event | None = None
    ) -> None:
        self._database = database
        self._store = store
        self._authorizer = authorizer
        self._leaving = leaving or asyncio.Event()

    async def write(self, caller: RequestContext, drafts: Sequence[Draft]) -> Sequence[Position]:
        """Append `drafts`, of any tenants, in one transaction; where each stands, in their order."""
        async with self._database.transaction(caller) as transaction:
            return await self.append(transaction, drafts)

    async def append(self, transaction: Transaction, drafts: Sequence[Draft]) -> Sequence[Position]:
        """The same in a transaction that somebody else has begun."""
        by_tenant: dict[str, list[Draft]] = defaultdict(list)
        for draft in drafts:
            by_tenant[draft.entry.tenant_id].append(draft)
        await transaction.lock(by_tenant)
        stand: dict[str, dict[str, Position]] = defaultdict(dict)
        for tenant, wanted in by_tenant.items():
            for first in range(0, len(wanted), APPEND_BATCH):
                stand[tenant] |= await self._extend(transaction, tenant, wanted[first : first + APPEND_BATCH])
        transaction.wake()
        return [stand[draft.entry.tenant_id][draft.entry.event_id] for draft in drafts]

    async def _extend(
        self, transaction: Transaction, tenant_id: str, drafts: Sequence[Draft]
    ) -> Mapping[str, Position]:
        connection = transaction.connection
        event_ids = {draft.entry.event_id for draft in drafts}
        stand = dict(await self._store.positions(connection, tenant_id, event_ids))
        head = await self._store.head(connection, tenant_id)
        links: list[Link] = []
        for draft in drafts:
            if draft.entry.event_id not in stand:
                link = domain.append(head, draft, ids.new_id("aud"), secrets.token_bytes(_SALT_BYTES))
                links.append(link)
                stand[draft.entry.event_id] = link.position
                head = Head(link.sequence, link.hash)
        if links:
            await self._store.append(connection, tenant_id, links)
        return stand

    async def list(
        self, caller: RequestContext, where: Filter, *, after: int | None, descending: bool, limit: int
    ) -> Sequence[Link]:
        """At most `limit` links of the caller's tenant, behind the number `after`."""
        async with self._database.read(caller) as connection:
            return await self._store.page(
                connection, caller.tenant_id, where, after=after, descending=descending, limit=limit
            )

    async def end(self, caller: RequestContext) -> int:
        """The number of the last link of the caller's tenant."""
        async with self._database.read(caller) as connection:
            return (await self._store.head(connection, caller.tenant_id)).sequence

    async def tail(
        self, caller: RequestContext, where: Filter, after: int, heartbeat: float
    ) -> AsyncGenerator[tuple[Sequence[Link], int]]:
        """The links behind `after` as they come, each time with the number to resume from; empty after `heartbeat` s.

        `PermissionDenied` as soon as the caller may no longer read the log. It ends when the process leaves.
        """
        due = time.monotonic()
        recheck = due + RECHECK_SECONDS
        while not self._leaving.is_set():
            upcoming = self._database.changed.upcoming()
            links, after, complete = await self._behind(caller, where, after)
            if time.monotonic() >= recheck:
                await self._check(caller)
                recheck = time.monotonic() + RECHECK_SECONDS
            if links or time.monotonic() >= due:
                yield links, after
                due = time.monotonic() + heartbeat
            if complete:
                await Signal.wait(upcoming, max(0.0, min(POLL_SECONDS, due - time.monotonic())))

    async def _behind(self, caller: RequestContext, where: Filter, after: int) -> tuple[Sequence[Link], int, bool]:
        async with self._database.read(caller) as connection:
            head = await self._store.head(connection, caller.tenant_id)
            links = await self._store.page(
                connection, caller.tenant_id, where, after=after, descending=False, limit=TAIL_BATCH
            )
        complete = len(links) < TAIL_BATCH
        return links, max(after, head.sequence) if complete else links[-1].sequence, complete

    async def _check(self, caller: RequestContext) -> None:
        (allowed,) = await self._authorizer.check(caller, [(f"tenant:{caller.tenant_id}", READ_PERMISSION)])
        if not allowed:
            raise PermissionDenied(f"tenant.{READ_PERMISSION} is needed and was taken away")

    async def verify(self, caller: RequestContext, first: int, last: int, known: Sequence[tuple[int, bytes]]) -> Report:
        """Compute the caller's chain anew from `first` to `last` (0 for either end), beside `known` hashes."""
        tenant_id, start = caller.tenant_id, max(first, 1)
        async with self._database.read(caller) as connection:
            head = await self._store.head(connection, tenant_id)
            wanted = {start - 1, head.sequence + 1, *(sequence for sequence, _ in known)}
            hashes = await self._store.hashes(connection, tenant_id, wanted)
        breaks = [
            Break(sequence, "the event is not the one that was noted")
            for sequence, noted in known
            if hashes.get(sequence) != noted
        ]
        if head.sequence + 1 in hashes:
            breaks.append(Break(head.sequence + 1, "the event stands behind the end of the chain"))
        if 1 < start <= head.sequence and start - 1 not in hashes:
            breaks.append(Break(start - 1, "the event is missing"))
        verifier = Verifier(Head(start - 1, hashes.get(start - 1, domain.GENESIS)))
        await self._walk(caller, verifier, min(last or head.sequence, head.sequence))
        if verifier.broken is not None:
            breaks.append(verifier.broken)
        elif verifier.head.sequence == head.sequence and verifier.head.hash != head.hash:
            breaks.append(Break(head.sequence, "the event is not the one that the chain ended with"))
        broken = min(breaks, key=lambda each: each.sequence, default=None)
        return Report(verifier.verified, verifier.erased, verifier.last, broken)

    async def _walk(self, caller: RequestContext, verifier: Verifier, end: int) -> None:
        while verifier.broken is None and verifier.head.sequence < end:
            async with self._database.read(caller) as connection:
                rows = await self._store.rows(connection, caller.tenant_id, verifier.head.sequence, end, VERIFY_BATCH)
            verifier.walk(rows)
            if not rows:
                verifier.end(end)
