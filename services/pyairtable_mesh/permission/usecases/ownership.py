"""The first owner of a tenant: whoever has the installation's one-time code for the first administrator."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import timedelta

from pyairtable_mesh.permission import schema
from pyairtable_mesh.permission.claims import Claims
from pyairtable_mesh.permission.domain import Resource, RoleBinding, Subject
from pyairtable_mesh.permission.usecases.changes import Acts, M
from pyairtable_mesh.permission.usecases.roles import has_owner
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database
from pyairtable_mesh.runtime.errors import (
    FailedPrecondition,
    PermissionDenied,
    PreconditionViolation,
    ResourceExhausted,
)

MAX_FAILURES = 10
"""Wrong codes of one caller in `WINDOW`. Counted for each caller, so that nobody can lock out another."""
WINDOW = timedelta(hours=1)


class Ownership:
    """Claims of callers. `code` reads the installation's code, empty where it has none."""

    def __init__(self, database: Database, acts: Acts, code: Callable[[], Awaitable[str]]) -> None:
        self._database = database
        self._acts = acts
        self._code = code

    async def claim(self, caller: RequestContext, code: str, answer: Callable[[RoleBinding, str], M]) -> M:
        """Make the caller owner of its tenant; `answer` gets the binding and the token of the new state.

        Who owns it already is told so, and the code stays as it is. FailedPrecondition where there is no code, the code
        was used or the tenant has another owner; PermissionDenied for a wrong code, ResourceExhausted after too many.
        """
        expected = await self._code()
        if not expected:
            async with self._database.read(caller):  # it knows of a claim from before the code was taken away
                raise _refused(
                    "CLAIM_CODE_MISSING", "installation", "this installation has no code for an administrator"
                )
        if not hmac.compare_digest(_digest(code), _digest(expected)):
            await self._count_failure(caller)
            raise PermissionDenied("this is not the code for the first administrator", reason="CLAIM_CODE_WRONG")
        tenant, me = Resource(schema.TENANT, caller.tenant_id), caller.user()
        async with self._acts.begin(caller) as act:
            claims = Claims(act.data.connection, caller.tenant_id, act.data.now)
            await _require_attempt(claims, me)
            for mine in await act.data.bindings(1, resource=str(tenant), subject=me, role=schema.OWNER):
                if mine.keeps_ownership:
                    return act.answer(answer(mine, act.token))
            if await has_owner(act.data, tenant):
                raise _refused("TENANT_HAS_OWNER", str(tenant), f"{tenant} has an owner: ask them to make you one")
            if not await claims.use(_digest(code)):
                words = "the code was used: put a new one into its Secret to claim another tenant"
                raise _refused("CLAIM_CODE_USED", str(tenant), words)
            now, at = act.data.now, act.data.at
            binding = RoleBinding(ids.new_id("rbn"), schema.OWNER, tenant, Subject.parse(me), me, now, revision=at)
            if (expiring := await act.data.put_binding(binding)) is not None:
                await act.data.delete_binding(expiring.id)
                await act.data.put_binding(binding)
            act.announce_binding(binding, "granted", kept=True)
            return act.answer(answer(binding, act.token))

    async def _count_failure(self, caller: RequestContext) -> None:
        async with self._database.transaction(caller) as transaction:
            claims = Claims(transaction.connection, caller.tenant_id, transaction.now)
            await _require_attempt(claims, caller.user())
            await claims.add_failure(caller.user(), transaction.now - WINDOW)
            details = {"reason": "CLAIM_CODE_WRONG"}
            transaction.audit(f"{schema.TENANT}:{caller.tenant_id}", outcome="denied", details=details)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


async def _require_attempt(claims: Claims, subject: str) -> None:
    failures = await claims.failures(subject, claims.now - WINDOW)
    if len(failures) >= MAX_FAILURES:
        words = f"{MAX_FAILURES} wrong codes in an hour: read the code from its Secret, and come back later"
        limit = {"limit": "failed_claims"}
        later = failures[-MAX_FAILURES] + WINDOW - claims.now
        raise ResourceExhausted(words, reason="TOO_MANY_CLAIMS", metadata=limit, retry_after=later)


def _refused(reason: str, subject: str, words: str) -> FailedPrecondition:
    return FailedPrecondition(words, [PreconditionViolation(reason, subject, words)], reason=reason)
