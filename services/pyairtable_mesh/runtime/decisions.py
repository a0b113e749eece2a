"""Which decisions go to the audit log, and how they come there without slowing a check.

A check only puts its decisions into a bounded buffer; a task writes the buffer to the outbox, from which the audit
service takes it. What one call asked for leaves together, in messages of a hundred. What does not fit is counted,
and the count is written in the place of what is missing. Each tenant has a share of the buffer, which grows back more
slowly than decisions are written, so that none can ask until there is no room for what another is told, nor until the
disk is full.
"""

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pyairtable.common.v1.audit_pb2 import AuditDecisions
from pyairtable_mesh.runtime import auditing, ids
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.database import Database, background
from pyairtable_mesh.runtime.errors import ResourceExhausted

if TYPE_CHECKING:
    from pyairtable_mesh.runtime.authorization import Circumstances, Decision, ScopedEngine

CAPACITY = 50_000
"""Decisions that wait to be written."""
SHARE = 20_000
"""How many of them one tenant may bring at once: twice as many as one call may ask for."""
RATE = 2_000.0
"""How many a second it may bring in the long run: a quarter of what an audit service takes."""
_ENOUGH = 5_000
"""Decisions that are written without waiting for more."""
_AT_ONCE = 100
"""Messages in a transaction."""
_IN_ONE_TURN = 10
"""Messages that are made in one turn of the event loop, which takes a millisecond."""
_INTERVAL_SECONDS = 1.0
_logger = logging.getLogger(__name__)


def recorded(
    engine: "ScopedEngine", question: tuple[str, str, str], decision: "Decision", given: "Circumstances"
) -> auditing.Decision:
    """A decision of an engine about (resource, verb, subject), with the grant that it came through."""
    return as_audited(question, decision, grant_behind(engine, question, given) if decision.allowed else "")


def as_audited(question: tuple[str, str, str], decision: "Decision", grant: str) -> auditing.Decision:
    """A decision about (resource, verb, subject) as the audit log takes it; `grant` is what it came through."""
    resource, verb, subject = question
    permission = f"{resource.partition(':')[0]}.{verb}"
    return auditing.Decision(subject, resource, permission, answer_of(decision), grant, str(decision.revision))


def grant_behind(engine: "ScopedEngine", question: tuple[str, str, str], given: "Circumstances") -> str:
    """The grant that an allowed answer came through. Empty where it takes longer to say than to check: what was
    answered is not to fail for that.
    """
    from pyairtable_mesh.runtime.authorization import granting  # noqa: PLC0415 # with the first engine

    try:
        binding = granting(engine, question, given)
    except ResourceExhausted:
        return ""
    return f"roleBindings/{binding}" if binding else ""


class Recorded(NamedTuple):
    """Decisions that were made for a caller, as many as one message holds."""

    event_id: str
    """The same in each attempt to write them: the audit log takes them once if one succeeded and nobody heard of it."""
    caller: RequestContext
    time: datetime
    space: str
    decisions: Sequence[auditing.Decision]


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
        rate: float = RATE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ratio = ratio
        self._capacity = capacity
        self._share = share
        self._rate = rate
        self._chance = chance
        self._waiting: list[Recorded] = []
        self._used = dict[str, tuple[float, datetime]]()
        self._count = 0
        self._full = asyncio.Event()
        self._lost = 0
        self.dropped = Counter[str]()
        """Decisions that did not fit, by the tenant, since the last that were written."""

    def observe(self, meter: Meter) -> None:
        """Tell with each collection how many decisions wait, and how many did not fit."""

        def dropped(_options: CallbackOptions) -> list[Observation]:
            return [Observation(self._lost)]

        def waiting(_options: CallbackOptions) -> list[Observation]:
            return [Observation(self._count)]

        words = "Decisions that did not fit into the buffer before the audit log."
        meter.create_observable_counter("pyairtable.audit.dropped", [dropped], unit="{decision}", description=words)
        words = "Decisions that wait to be written to the audit log."
        meter.create_observable_gauge("pyairtable.audit.waiting", [waiting], unit="{decision}", description=words)

    def wants(self, *, allowed: bool) -> bool:
        """Whether a decision is to be taken."""
        return not allowed or (self._ratio > 0 and self._chance() < self._ratio)

    def take(self, caller: RequestContext, decisions: Sequence[auditing.Decision], space: str = "") -> None:
        """Keep decisions of one call (in a model space by its name, else the platform's) to be written; never waits."""
        if not decisions:
            return
        tenant_id, time = caller.tenant_id, self._clock()
        used = self._used_by(tenant_id, time)
        room = max(0, min(self._capacity - self._count, self._share - math.ceil(used)))
        kept, lost = decisions[:room], len(decisions[room:])
        if lost:
            self.dropped[tenant_id] += lost
            self._lost += lost
        for first in range(0, len(kept), auditing.MOST_DECISIONS):
            part = kept[first : first + auditing.MOST_DECISIONS]
            self._waiting.append(Recorded(ids.new_id("evt"), caller, time, space, part))
        self._used[tenant_id] = used + len(kept), time
        self._count += len(kept)
        if self._count >= _ENOUGH:
            self._full.set()

    def _used_by(self, tenant_id: str, now: datetime) -> float:
        """How much of its share a tenant has not got back yet."""
        used, at = self._used.get(tenant_id, (0.0, now))
        return max(0.0, used - (now - at).total_seconds() * self._rate)

    async def run(self) -> None:
        """Write what waits, about each second, until cancelled; then what is left."""
        try:
            while True:
                try:
                    async with asyncio.timeout(_INTERVAL_SECONDS):
                        await self._full.wait()
                except TimeoutError:
                    pass
                # Those that come meanwhile wait for others: a transaction for the few would cost as much as for many.
                await self._try_to_write(_ENOUGH - 1)
        finally:
            await self._try_to_write()

    async def _try_to_write(self, leave: int = 0) -> None:
        try:
            await self.write(leave)
        except Exception:
            _logger.exception("decisions wait to be written to the audit log")
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def write(self, leave: int = 0) -> None:
        """Write what waits, until at most `leave` decisions do; what cannot be written now goes on waiting."""
        more = bool(self._waiting)
        while more:
            part = self._waiting[:_AT_ONCE]
            written = Counter[str]()
            for each in part:
                written[each.caller.tenant_id] += len(each.decisions)
            dropped = Counter({tenant_id: self.dropped[tenant_id] for tenant_id in written})
            # What no message has told of yet, and what no message could be made of.
            untold, lost = dropped.copy(), written.copy()
            told = await _messages(part, untold)
            async with self._database.transaction(background()) as transaction:
                for tenant_id, message in told:
                    lost[tenant_id] -= len(message.decisions)
                    transaction.publish(
                        auditing.DECISIONS_TYPE,
                        f"tenant:{tenant_id}",
                        message,
                        aggregate=auditing.EVENT_TYPE,
                        tenant_id=tenant_id,
                    )
            del self._waiting[: len(part)]
            self._count -= written.total()
            self._lost += lost.total()
            self.dropped += lost
            self.dropped -= dropped - untold
            more = self._count > leave
        self._full.clear()
        now = self._clock()
        self._used = {each: held for each, held in self._used.items() if self._used_by(each, now)}


async def _messages(recorded: Sequence[Recorded], untold: Counter[str]) -> list[tuple[str, AuditDecisions]]:
    """What the audit log gets, each with its tenant; `untold` decisions of a tenant did not fit before its first.

    What no message can be made of, which is a mistake in the service, is left out: others are not to wait for it.
    """
    made = list[tuple[str, AuditDecisions]]()
    for number, (event_id, caller, time, space, decisions) in enumerate(recorded, 1):
        try:
            message = auditing.decisions_message(decisions, caller, time, {"space": space} if space else {})
        except Exception:
            _logger.exception("%d decisions of %s cannot be written to the audit log", len(decisions), caller.method)
        else:
            message.event_id, message.dropped_before = event_id, untold.pop(caller.tenant_id, 0)
            made.append((caller.tenant_id, message))
        if number % _IN_ONE_TURN == 0:
            await asyncio.sleep(0)
    return made
