"""The conditions of relationships and role bindings, with their values as JSON; what is there holds always."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for table in ("relationship", "role_binding"):
        op.add_column(table, sa.Column("condition", text(50), nullable=False, server_default=""))
        op.add_column(table, sa.Column("context", sa.Text(), nullable=False, server_default=""))
