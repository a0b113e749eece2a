"""Roles, role bindings, relationships, scope modes and each tenant's revision."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "role",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("role_id", text(29), primary_key=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("display_key", text(300), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("update_time", Timestamp(), nullable=False),
        sa.Column("creator", text(96), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("role_by_display_key", "role", ["tenant_id", "display_key"], unique=True)
    op.create_table(
        "role_binding",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("binding_id", text(29), primary_key=True),
        sa.Column("role", text(29), nullable=False),
        sa.Column("resource", text(96), nullable=False),
        sa.Column("subject", text(96), nullable=False),
        sa.Column("expire_time", Timestamp()),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("creator", text(256), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "role_binding_by_resource", "role_binding", ["tenant_id", "resource", "subject", "role"], unique=True
    )
    op.create_index("role_binding_by_subject", "role_binding", ["tenant_id", "subject", "binding_id"])
    op.create_index("role_binding_by_role", "role_binding", ["tenant_id", "role", "binding_id"])
    op.create_table(
        "relationship",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("resource", text(96), primary_key=True),
        sa.Column("relation", text(50), primary_key=True),
        sa.Column("subject", text(96), primary_key=True),
        sa.Column("expire_time", Timestamp()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("relationship_by_subject", "relationship", ["tenant_id", "subject", "relation", "resource"])
    op.create_table(
        "inheritance",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("resource", text(96), primary_key=True),
        sa.Column("mode", text(16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "revision",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    secure_rows(op, "role", "role_binding", "relationship", "inheritance", "revision")
