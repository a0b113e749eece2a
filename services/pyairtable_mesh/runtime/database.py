"""One database per service, the same way on SQLite and on PostgreSQL 13 or later (SQLAlchemy Core, asyncio).

Writes of one tenant are serial on both. On SQLite there is one writer (a pool of one connection, BEGIN IMMEDIATE); on
PostgreSQL a transaction begins by taking an advisory lock on its tenant and then reads committed rows. So a use case
may read, decide and write without a thought for races, nothing ever has to be retried for a serialization failure,
events of a tenant leave in the order of its changes, and tenants do not wait for each other. Reads see one snapshot
and wait for nobody. What spans tenants takes the locks it needs with `Transaction.lock`, sorted.

The first wall between tenants is that every key begins with `tenant_id`. On PostgreSQL row-level security is the
second: tables given to `migrations.secure_rows` show and take only rows of ``pyairtable.tenant``, which each
transaction sets for itself; workloads without a tenant set ``*`` and see all. Superusers and roles with BYPASSRLS are
above it; opening says so in the log.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from google.protobuf.message import Message
from opentelemetry import trace
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pyairtable_mesh.runtime import auditing, engines, idempotency, ids, outbox, sqlite_engine
from pyairtable_mesh.runtime.columns import by_key
from pyairtable_mesh.runtime.context import Actor, RequestContext
from pyairtable_mesh.runtime.database_faults import translated
from pyairtable_mesh.runtime.errors import Unavailable
from pyairtable_mesh.runtime.moments import utc_now
from pyairtable_mesh.runtime.signals import PostgresRelay, Signal
from pyairtable_mesh.runtime.telemetry import traceparent_of

_logger = logging.getLogger(__name__)

_ENTER = text(
    "SELECT set_config('pyairtable.tenant', :tenant, true),"
    " pg_advisory_xact_lock(hashtextextended(:tenant, hashtext(current_schema())))"
)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, hashtext(current_schema())))")
_SCOPE = text("SELECT set_config('pyairtable.tenant', :tenant, true)")
_ABOVE_ROW_SECURITY = text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
_ONE = by_key(text("SELECT 1"))
_EVERY_TENANT = "*"
_GREETING_SECONDS = 10.0
_GREETING_PAUSE_SECONDS = 1.0


def background(tenant_id: str = "", *, workload: str = "") -> RequestContext:
    """The context of work that no RPC asked for, done by `workload` (a SPIFFE id); without a tenant it sees all."""
    return RequestContext(method="background", actor=Actor("workload", workload), tenant_id=tenant_id)


def _scope(caller: RequestContext) -> str:
    return caller.tenant_id or (_EVERY_TENANT if caller.actor.kind == "workload" else "")


@dataclass(slots=True)
class Transaction:
    """One change. What is published, audited and remembered is written with it, or not at all."""

    connection: AsyncConnection
    caller: RequestContext
    source: str
    now: datetime = field(init=False)
    """When it began: no earlier than what it sees was committed."""
    traceparent: str = field(init=False)
    """The call that makes it, for who follows its events."""
    events: list[outbox.Event] = field(default_factory=list)
    response: bytes | None = None
    waking: bool = False

    def publish(
        self, event_type: str, subject: str, data: Message, *, aggregate: str = "", tenant_id: str = ""
    ) -> None:
        """Announce a change: ``permission.role_binding.created``, the resource name, and what consumers need to know.

        Order holds per `aggregate` (the subject, where none is given); the tenant is the caller's, unless given.
        """
        payload = data.SerializeToString(deterministic=True)
        if len(payload) > outbox.MAX_DATA_BYTES:
            raise ValueError(f"{event_type} has {len(payload)} bytes: publish what changed, not what there is")
        self.events.append(
            outbox.Event(
                id=ids.new_id("evt"),
                type=event_type,
                source=self.source,
                subject=subject,
                time=self.now,
                tenant_id=tenant_id or self.caller.tenant_id,
                aggregate=aggregate or subject,
                data_type=data.DESCRIPTOR.full_name,
                data=payload,
                traceparent=self.traceparent,
                correlation_id=self.caller.correlation_id,
            )
        )

    def audit(
        self,
        resource: str,
        *,
        action: str = "",
        outcome: auditing.Outcome = "succeeded",
        details: Mapping[str, str] | None = None,
        decision: auditing.Decision | None = None,
        personal: auditing.PersonalData | None = None,
    ) -> None:
        """Write to the audit log, by way of the outbox: who is the caller, `action` the RPC in hand unless given
        (``package.Service/Method``), `resource` a permission object (``base:app…``).
        """
        entry = auditing.Entry(resource, action, outcome, details or {}, decision, personal)
        message = auditing.message(entry, self.caller, self.now)
        self.publish(auditing.EVENT_TYPE, resource, message, aggregate=auditing.EVENT_TYPE)

    def remember(self, response: bytes) -> None:
        """The serialised answer for repetitions of this request; without a request id it is not kept."""
        self.response = response

    def wake(self) -> None:
        """Have whoever waits for `Database.changed` look again after the commit."""
        self.waking = True

    async def lock(self, tenant_ids: Iterable[str]) -> None:
        """Make this transaction serial with the changes of further tenants; once, for all of them."""
        if self.connection.dialect.name == "postgresql":
            for tenant_id in sorted(set(tenant_ids)):
                await self.connection.execute(_LOCK, {"key": tenant_id})

    async def begin(self, clock: Callable[[], datetime]) -> None:
        """Take the tenant's turn."""
        if self.connection.dialect.name == "postgresql":
            scope = _scope(self.caller)
            await self.connection.execute(_ENTER if self.caller.tenant_id else _SCOPE, {"tenant": scope})
        self.now = clock()
        self.traceparent = traceparent_of(trace.get_current_span())

    async def finish(self) -> None:
        """Write what was published and remembered; the commit follows. `idempotency.Replayed` when the request was
        answered before: to ask in the beginning would cost each change a statement, for the sake of few repetitions.
        """
        if self.events:
            await outbox.append(self.connection, self.events)
        key = idempotency.Key.of(self.caller)
        if key is not None and self.response is not None:
            await idempotency.remember(self.connection, key, self.response, self.now)
        else:
            await idempotency.require_first(self.connection, self.caller)


class Database:
    """The service's database; made by `opened`. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        writer: AsyncEngine | sqlite_engine.Writer,
        reader: AsyncEngine,
        *,
        source: str,
        clock: Callable[[], datetime],
        relay: PostgresRelay | None,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._source = source
        self._clock = clock
        self._relay = relay
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.changed = Signal()
        """Set when events, or changes that called `Transaction.wake`, were committed: here or in another process."""
        self.changed_elsewhere = Signal()
        """Set when they were committed in another process, for who knows of this one's."""

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._writer.dialect.name

    @asynccontextmanager
    async def read(self, caller: RequestContext) -> AsyncIterator[AsyncConnection]:
        """A read-only snapshot as `caller` may see it; `idempotency.Replayed` as for `transaction`."""
        with translated():
            async with self._reader.connect() as connection:
                if self.dialect == "postgresql":
                    await connection.execute(_SCOPE, {"tenant": _scope(caller)})
                await idempotency.require_first(connection, caller)
                yield connection

    @asynccontextmanager
    async def transaction(self, caller: RequestContext) -> AsyncIterator[Transaction]:
        """A change of `caller`'s tenant, committed when the block ends and rolled back when it raises.

        `idempotency.Replayed` when the request was answered before, in the place of what the block raises, too: a
        repetition may fail for what the first one has changed.
        """
        try:
            with translated():
                # Without this queue a tenant's burst of changes would wait for the lock on all of the connections.
                async with self._turn(caller.tenant_id), self._writer.begin() as connection:
                    transaction = Transaction(connection, caller, self._source)
                    await transaction.begin(self._clock)
                    yield transaction
                    await transaction.finish()
        except idempotency.Replayed:
            raise
        except Exception:
            if caller.request_id:
                with suppress(Unavailable):
                    async with self.read(caller):
                        pass  # it raises for an answered request
            raise
        if transaction.events or transaction.waking:
            self.changed.notify()
            if self._relay is not None:
                self._relay.notify()

    def hear(self) -> None:
        """Another process has committed changes."""
        self.changed.notify()
        self.changed_elsewhere.notify()

    def _turn(self, tenant_id: str) -> AbstractAsyncContextManager[None]:
        return self._turns.setdefault(tenant_id, asyncio.Lock()) if tenant_id else nullcontext()

    async def ping(self) -> None:
        """The health check: `Unavailable` when the database does not answer."""
        with translated():
            async with self._reader.connect() as connection:
                await connection.execute(_ONE)

    async def above_row_security(self) -> bool:
        """Whether PostgreSQL's row-level security does not bind this user; False on SQLite, which has none."""
        if self.dialect != "postgresql":
            return False
        with translated():
            async with self._reader.connect() as connection:
                return bool((await connection.execute(_ABOVE_ROW_SECURITY)).scalar_one())


@asynccontextmanager
async def opened(
    url: str,
    *,
    service: str,
    clock: Callable[[], datetime] = utc_now,
    pool_size: int = 10,
    statement_timeout: timedelta = timedelta(seconds=10),
    wait: timedelta = timedelta(0),
) -> AsyncIterator[Database]:
    """The database at ``sqlite:///path`` or ``postgresql://user:password@host/name``, until the block ends.

    `service` names the source of events; `pool_size` is in connections, `statement_timeout` the longest that one
    statement may take on PostgreSQL. A PostgreSQL that does not answer is asked again for as long as `wait`; then
    `Unavailable` in words. ValueError when the URL is of another kind.
    """
    target = engines.parsed(url)
    writer: AsyncEngine | sqlite_engine.Writer
    if target.get_backend_name() == "sqlite":
        writer, reader = sqlite_engine.engines(target, pool_size)
        relay, listen = None, writer.listen
    else:
        writer, reader = engines.on_postgresql(target, pool_size, statement_timeout)
        relay = PostgresRelay(engines.unpooled(target))
        listen = relay.run
    database = Database(writer, reader, source=f"/services/{service}", clock=clock, relay=relay)
    try:
        await _greet(database, target, wait if relay is not None else timedelta(0))
        async with _running(listen(database.hear)):
            yield database
    finally:
        try:
            await writer.dispose()
        finally:
            await reader.dispose()


@asynccontextmanager
async def _running(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _greet(database: Database, url: URL, wait: timedelta) -> None:
    where = url.render_as_string(hide_password=True)
    words = f"the database {where} does not answer: is it running, and are host, name, user and password right?"
    end = time.monotonic() + wait.total_seconds()
    above: bool | None = None
    while above is None:
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                await database.ping()
                above = await database.above_row_security()
        except Exception as error:
            if time.monotonic() >= end:
                raise Unavailable(words, reason="DATABASE_UNAVAILABLE") from error
            _logger.warning("%s It is asked again for %.0f s", words, end - time.monotonic())
            await asyncio.sleep(_GREETING_PAUSE_SECONDS)
    if above:
        _logger.warning("row-level security does not bind this database user: use one without SUPERUSER and BYPASSRLS")
