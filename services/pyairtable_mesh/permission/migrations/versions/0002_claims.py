"""Used codes for a first administrator, and claims with a wrong code."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "claim",
        sa.Column("code_hash", text(64), primary_key=True),
        sa.Column("tenant", text(29), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
    )
    op.create_table(
        "failed_claim",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("claim_id", text(29), primary_key=True),
        sa.Column("subject", text(96), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
    )
    op.create_index("failed_claim_by_time", "failed_claim", ["tenant_id", "create_time"])
    secure_rows(op, "failed_claim")
