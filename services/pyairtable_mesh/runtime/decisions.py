"""Which decisions go to the audit log, and how they come there without slowing a check.

A check only puts its decision into a bounded buffer; a task writes the buffer to the outbox, from which the audit
service takes it. What does not fit is counted, and the count is written in the place of what is missing. Each tenant
has a share of the buffer, so that none can ask until there is no room for what another is told.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pyairtable.common.v1.audit_pb2 import AuditEvent
from pyairtable_mesh.runtime import auditing
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import ResourceExhausted

if TYPE_CHECKING:
    from pyairtable_mesh.runtime.authorization import Circumstances, Decision, ScopedEngine

CAPACITY = 10_000
"""Decisions that wait to be written."""
SHARE = 2_000
"""How many of them one tenant may have."""
_AT_ONCE = 100
_IN_ONE_TURN = 20
_INTERVAL_SECONDS = 1.0
_logger = logging.getLogger(__name__)


def recorded(
    engine: "ScopedEngine", question: tuple[str, str, str], decision: "Decision", given: "Circumstances"
) -> auditing.Decision:
    """A decision of an engine about (resource, verb, subject), with the grant that it came through."""
    resource, verb, subject = question
    return auditing.Decision(
        subject,
        resource,
        f"{resource.partition(':')[0]}.{verb}",
        answer_of(decision),
        _grant(engine, question, given) if decision.allowed else "",
        str(decision.revision),
    )


def _grant(engine: "ScopedEngine", question: tuple[str, str, str], given: "Circumstances") -> str:
    """Empty where it takes longer to say than to check: what was answered is not to fail for that."""
    from pyairtable_mesh.runtime.authorization import granting  # noqa: PLC0415 # with the first engine

    try:
        binding = granting(engine, question, given)
    except ResourceExhausted:
        return ""
    return f"roleBindings/{binding}" if binding else ""


class Recorded(NamedTuple):
    """A decision that was made for a caller."""

    caller: RequestContext
    time: datetime
    decision: auditing.Decision
    space: str


def answer_of(decision: "Decision") -> auditing.Answer:
    """How a decision is called."""
    return "allowed" if decision.allowed else "conditional" if decision.missing else "denied"


class DecisionLog:
    """Takes every denial, and of what is allowed a share of `ratio`; `chance` gives numbers from 0 to 1."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        ratio: float,
        *,
        capacity: int = CAPACITY,
        share: int = SHARE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ratio = ratio
        self._capacity = capacity
        self._share = share
        self._chance = chance
        self._waiting: list[Recorded] = []
        self._held = Counter[str]()
        self._full = asyncio.Event()
        self._lost = 0
        self.dropped = Counter[str]()
        """Decisions that did not fit, by the tenant, since the last that were written."""

    def observe(self, meter: Meter) -> None:
        """Tell with each collection how many decisions wait, and how many did not fit."""

        def dropped(_options: CallbackOptions) -> list[Observation]:
            return [Observation(self._lost)]

        def waiting(_options: CallbackOptions) -> list[Observation]:
            return [Observation(len(self._waiting))]

        words = "Decisions that did not fit into the buffer before the audit log."
        meter.create_observable_counter("pyairtable.audit.dropped", [dropped], unit="{decision}", description=words)
        words = "Decisions that wait to be written to the audit log."
        meter.create_observable_gauge("pyairtable.audit.waiting", [waiting], unit="{decision}", description=words)

    def wants(self, *, allowed: bool) -> bool:
        """Whether a decision is to be taken."""
        return not allowed or (self._ratio > 0 and self._chance() < self._ratio)

    def take(self, caller: RequestContext, decision: auditing.Decision, space: str = "") -> None:
        """Keep a decision (in a model space by its name, else the platform's) to be written; never waits."""
        tenant_id = caller.tenant_id
        held = self._held.get(tenant_id, 0)
        if len(self._waiting) >= self._capacity or held >= self._share:
            self.dropped[tenant_id] += 1
            self._lost += 1
            return
        self._held[tenant_id] = held + 1
        self._waiting.append(Recorded(caller, self._clock(), decision, space))
        if len(self._waiting) >= _AT_ONCE:
            self._full.set()

    async def run(self) -> None:
        """Write what waits, about each second, until cancelled; then what is left."""
        try:
            while True:
                try:
                    async with asyncio.timeout(_INTERVAL_SECONDS):
                        await self._full.wait()
                except TimeoutError:
                    pass
                await self._try_to_write()
        finally:
            await self._try_to_write()

    async def _try_to_write(self) -> None:
        try:
            await self.write()
        except Exception:
            _logger.exception("decisions wait to be written to the audit log")
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def write(self) -> None:
        """Write everything that waits; what cannot be written now goes on waiting."""
        while self._waiting:
            part = self._waiting[:_AT_ONCE]
            tenants = Counter(each.caller.tenant_id for each in part)
            dropped = Counter({each: self.dropped[each] for each in tenants})
            untold = dropped.copy()
            told: list[tuple[Recorded, AuditEvent]] = []
            for each in part:
                told.append((each, _message(each, untold.pop(each.caller.tenant_id, 0))))
                if len(told) % _IN_ONE_TURN == 0:
                    await asyncio.sleep(0)
            async with self._database.transaction(background()) as transaction:
                for each, message in told:
                    resource, tenant_id = each.decision.resource, each.caller.tenant_id
                    kind = auditing.EVENT_TYPE
                    transaction.publish(kind, resource, message, aggregate=kind, tenant_id=tenant_id)
            del self._waiting[: len(part)]
            self._held -= tenants
            self.dropped -= dropped
        self._full.clear()


def _message(recorded: Recorded, dropped: int) -> AuditEvent:
    """What the audit log gets; `dropped` decisions of its tenant did not fit before it."""
    caller, time, decision, space = recorded
    details = {"space": space} if space else {}
    if dropped:
        details["dropped_before"] = str(dropped)
    outcome: auditing.Outcome = "denied" if decision.answer == "denied" else "succeeded"
    return auditing.message(auditing.Entry(decision.resource, "", outcome, details, decision, None), caller, time)
