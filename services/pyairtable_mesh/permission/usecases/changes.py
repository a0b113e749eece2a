"""One administrative act: a transaction that decides, writes, announces, audits and remembers its answer."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from pyairtable_mesh.permission import domain
from pyairtable_mesh.permission.domain import Changed, Resource, Revision, RoleBinding
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.platform import State
from pyairtable_mesh.permission.store import Change
from pyairtable_mesh.permission.usecases.authority import DeniedError, HiddenError, RefusalsRecorded
from pyairtable_mesh.permission.usecases.consistency import Tokens
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, Transaction
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.errors import PermissionDenied

M = TypeVar("M", bound=Message)
_CHANGES_IN_ONE_EVENT = 1_000


Describe = Callable[[Sequence[Changed]], Message]
"""The data of an event, made by `messages`."""


@dataclass(frozen=True, slots=True)
class Act:
    """The act in hand."""

    data: Change
    token: str
    _transaction: Transaction
    _describe: Describe

    def announce(
        self,
        event: str,
        name: str,
        changed: Sequence[Changed],
        resource: Resource | str,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Tell subscribers (``permission.<event>`` about `name`) and the audit log (about `resource`)."""
        aggregate = f"tenants/{self.data.tenant_id}"
        for first in range(0, len(changed), _CHANGES_IN_ONE_EVENT):
            data = self._describe(changed[first : first + _CHANGES_IN_ONE_EVENT])
            self._transaction.publish(f"permission.{event}", name, data, aggregate=aggregate)
        self._transaction.audit(str(resource), details=details, decision=next(iter(self.data.decisions), None))

    def announce_binding(self, binding: RoleBinding, event: str, *, kept: bool) -> None:
        """The same for a role binding."""
        details = {"role": domain.role_name(binding.role), "subject": str(binding.subject), "binding": binding.name}
        if binding.condition:
            details["condition"] = binding.condition
        self.announce(f"role_binding.{event}", binding.name, [Changed(binding, kept)], binding.resource, details)

    def answer(self, message: M) -> M:
        """Keep the answer for repetitions of this request."""
        self._transaction.remember(message.SerializeToString())
        return message


class Acts:
    """Begins acts; a refusal leaves nothing but its entry in the audit log."""

    def __init__(
        self, database: Database, tokens: Tokens, describe: Describe, engines: Engines[State], log: DecisionLog
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._describe = describe
        self._engines = engines
        self._log = log

    @asynccontextmanager
    async def begin(self, caller: RequestContext) -> AsyncIterator[Act]:
        """A transaction of the caller's tenant at its next revision."""
        async with self.refusals_audited(caller):
            async with self._database.transaction(caller) as transaction:
                change = await Change.begin(transaction.connection, caller.tenant_id, transaction.now)
                token = self._tokens.of(caller.tenant_id, change.at)
                yield Act(change, token, transaction, self._describe)
            self._engines.committed(caller.tenant_id, Revision(change.at, change.now, change.changes))

    @asynccontextmanager
    async def refusals_audited(self, caller: RequestContext) -> AsyncIterator[None]:
        """Write a refusal of the block to the audit log before it is passed on."""
        try:
            yield
        except (PermissionDenied, HiddenError) as refusal:
            details = {key: refusal.metadata[key] for key in ("permission",) if key in refusal.metadata}
            details["reason"] = refusal.reason
            decision = refusal.decision if isinstance(refusal, DeniedError | HiddenError) else None
            async with self._database.transaction(caller) as transaction:
                transaction.audit(refusal.metadata["resource"], outcome="denied", details=details, decision=decision)
            raise

    def reading(self, caller: RequestContext) -> AbstractContextManager[None]:
        """Put a refusal of the block, which reads, into the decision log before it is passed on."""
        return RefusalsRecorded(self._log, caller)
