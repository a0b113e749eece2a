"""What each change did, for as long as the past can be asked about; and models that tenants bring."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0003"
down_revision = "0002"


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
    op.create_table(
        "model_space",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("space_id", text(29), primary_key=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("display_key", text(300), nullable=False),
        sa.Column("schema_id", text(29), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("creator", text(96), nullable=False),
    )
    op.create_index("model_space_by_display_key", "model_space", ["tenant_id", "display_key"], unique=True)
    op.create_table(
        "model_schema",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("schema_id", text(29), primary_key=True),
        sa.Column("space_id", text(29), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("creator", text(96), nullable=False),
    )
    op.create_index("model_schema_by_space", "model_schema", ["tenant_id", "space_id", "schema_id"])
    op.create_table(
        "space_relationship",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("space_id", text(29), primary_key=True),
        sa.Column("resource", text(180), primary_key=True),
        sa.Column("relation", text(50), primary_key=True),
        sa.Column("subject", text(240), primary_key=True),
        sa.Column("condition", text(50), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("expire_time", Timestamp()),
    )
    op.create_index("space_relationship_by_subject", "space_relationship", ["tenant_id", "space_id", "subject"])
    secure_rows(op, "changelog", "model_space", "model_schema", "space_relationship")
