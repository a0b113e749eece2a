"""Users with what belongs to each, groups, and what users are found by."""

import sqlalchemy as sa
from alembic import op

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.runtime.migrations import secure_rows

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("id", text(29), primary_key=True),
        sa.Column("email", text(254), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("display_key", text(), nullable=False),
        sa.Column("given_name", sa.Text(), nullable=False),
        sa.Column("family_name", sa.Text(), nullable=False),
        sa.Column("job_title", sa.Text(), nullable=False),
        sa.Column("avatar_uri", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=False),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("pending_email", text(254), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("update_time", Timestamp(), nullable=False),
        sa.Column("delete_time", Timestamp()),
    )
    op.create_index("users_by_display_key", "users", ["tenant_id", "display_key", "id"])
    alive = sa.text("delete_time IS NULL")
    op.create_index(
        "users_by_email", "users", ["tenant_id", "email"], unique=True, sqlite_where=alive, postgresql_where=alive
    )
    op.create_table(
        "user_preferences",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("user_id", text(29), primary_key=True),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("theme", sa.Text(), nullable=False),
        sa.Column("density", sa.Text(), nullable=False),
        sa.Column("date_format", sa.Text(), nullable=False),
        sa.Column("time_format", sa.Text(), nullable=False),
        sa.Column("first_day_of_week", sa.Text(), nullable=False),
        sa.Column("reduced_motion", sa.Boolean(), nullable=False),
        sa.Column("update_time", Timestamp(), nullable=False),
    )
    op.create_table(
        "user_settings",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("user_id", text(29), primary_key=True),
        sa.Column("discoverable", sa.Boolean(), nullable=False),
        sa.Column("presence_visible", sa.Boolean(), nullable=False),
        sa.Column("session_idle_timeout", sa.Interval()),
        sa.Column("update_time", Timestamp(), nullable=False),
    )
    op.create_table(
        "user_groups",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("id", text(29), primary_key=True),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("display_key", text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("create_time", Timestamp(), nullable=False),
        sa.Column("update_time", Timestamp(), nullable=False),
    )
    op.create_index("user_groups_by_display_key", "user_groups", ["tenant_id", "display_key", "id"])
    op.create_table(
        "user_terms",
        sa.Column("tenant_id", text(29), primary_key=True),
        sa.Column("term", text(64), primary_key=True),
        sa.Column("user_id", text(29), primary_key=True),
        sa.Column("edits", sa.SmallInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("user_terms_by_user", "user_terms", ["tenant_id", "user_id"])
    secure_rows(op, "users", "user_preferences", "user_settings", "user_groups", "user_terms")
