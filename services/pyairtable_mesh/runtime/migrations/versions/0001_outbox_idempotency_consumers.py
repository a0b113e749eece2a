"""The runtime's tables: outbox, idempotency records, consumers' cursors, shared values."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("xid", sa.BigInteger(), nullable=False, server_default=sa.text("'0'")),
        sa.Column("event_id", text(29), nullable=False),
        sa.Column("tenant_id", text(29), nullable=False),
        sa.Column("type", text(128), nullable=False),
        sa.Column("source", text(128), nullable=False),
        sa.Column("subject", text(256), nullable=False),
        sa.Column("aggregate", text(256), nullable=False),
        sa.Column("time", Timestamp(), nullable=False),
        sa.Column("traceparent", text(55), nullable=False),
        sa.Column("correlation_id", text(128), nullable=False),
        sa.Column("data_type", text(128), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_position", "outbox", ["xid", "seq"])
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("caller", text(256), primary_key=True),
        sa.Column("method", text(256), primary_key=True),
        sa.Column("request_id", text(64), primary_key=True),
        sa.Column("request_digest", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
    )
    op.create_index("idempotency_by_time", "idempotency", ["create_time"])
    op.create_table(
        "consumers",
        sa.Column("name", text(128), primary_key=True),
        sa.Column("cursor", text(512), nullable=False),
        sa.Column("update_time", Timestamp(), nullable=False),
    )
    op.create_table(
        "consumed_events",
        sa.Column("consumer", text(128), primary_key=True),
        sa.Column("event_id", text(64), primary_key=True),
        sa.Column("create_time", Timestamp(), nullable=False),
    )
    op.create_index("consumed_events_by_time", "consumed_events", ["create_time"])
    op.create_table(
        "runtime_values",
        sa.Column("name", text(64), primary_key=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
    )
    secure_rows(op, "outbox", "idempotency")
