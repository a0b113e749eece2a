"""What each change did, for as long as the past can be asked about."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0003"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "changelog",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("space", text(29), primary_key=True),
        sa.Column("revision", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("ordinal", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", text(16), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
    )
    op.create_index("changelog_by_time", "changelog", ["create_time"])
    secure_rows(op, "changelog")
