"""The chains, their events, and the personal data beside them."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "audit_events",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("audit_id", text(29), nullable=False),
        sa.Column("event_id", text(29), nullable=False),
        sa.Column("event_time", Timestamp(), nullable=False),
        sa.Column("subject", text(256), nullable=False),
        sa.Column("workload", text(2048), nullable=False),
        sa.Column("action", text(256), nullable=False),
        sa.Column("resource", text(256), nullable=False),
        sa.Column("outcome", text(16), nullable=False),
        sa.Column("correlation_id", text(128), nullable=False),
        sa.Column("trace_id", text(32), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
    )
    op.create_index("audit_events_by_event_id", "audit_events", ["tenant_id", "event_id"], unique=True)
    op.create_index("audit_events_by_subject", "audit_events", ["tenant_id", "subject", "sequence"])
    op.create_index("audit_events_by_resource", "audit_events", ["tenant_id", "resource", "sequence"])
    op.create_table(
        "audit_personal_data",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )
    secure_rows(op, "audit_chains", "audit_events", "audit_personal_data")
