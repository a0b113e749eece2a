"""The tables that the runtime keeps in every service's database, beside the service's own.

They have migrations of their own (`runtime/migrations/versions`), which run before the service's.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table
from sqlalchemy import text as sql_text

from pyairtable_mesh.runtime.columns import Timestamp, text

METADATA = MetaData()

OUTBOX = Table(
    "outbox",
    METADATA,
    # SQLite gives out rowids of AUTOINCREMENT only once, so a trimmed outbox does not reuse a consumer's cursor.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    # PostgreSQL's 64 bit transaction id (xid8, which drivers do not read as a number); stays 0 on SQLite.
    Column("xid", BigInteger(), nullable=False, server_default=sql_text("'0'")),
    Column("event_id", text(29), nullable=False),
    Column("tenant_id", text(29), nullable=False),
    Column("type", text(128), nullable=False),
    Column("source", text(128), nullable=False),
    Column("subject", text(256), nullable=False),
    Column("aggregate", text(256), nullable=False),
    Column("time", Timestamp(), nullable=False),
    Column("traceparent", text(55), nullable=False),
    Column("correlation_id", text(128), nullable=False),
    Column("data_type", text(128), nullable=False),
    Column("data", LargeBinary(), nullable=False),
    Index("outbox_by_position", "xid", "seq"),
    sqlite_autoincrement=True,
)

IDEMPOTENCY = Table(
    "idempotency",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("caller", text(256), primary_key=True),
    Column("method", text(256), primary_key=True),
    Column("request_id", text(64), primary_key=True),
    Column("request_digest", LargeBinary(), nullable=False),
    Column("response", LargeBinary(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Index("idempotency_by_time", "create_time"),
)

CONSUMERS = Table(
    "consumers",
    METADATA,
    Column("name", text(128), primary_key=True),
    Column("cursor", text(512), nullable=False),
    Column("update_time", Timestamp(), nullable=False),
)

CONSUMED_EVENTS = Table(
    "consumed_events",
    METADATA,
    Column("consumer", text(128), primary_key=True),
    Column("event_id", text(64), primary_key=True),
    Column("create_time", Timestamp(), nullable=False),
    Index("consumed_events_by_time", "create_time"),
)

RUNTIME_VALUES = Table(
    "runtime_values",
    METADATA,
    Column("name", text(64), primary_key=True),
    Column("value", LargeBinary(), nullable=False),
)
"""Single values that replicas share: the sealing key, how far the outbox has been trimmed."""
