"""The tables of the user service. Columns are named like the fields of the domain's values, which `store` relies on."""

from sqlalchemy import Boolean, Column, Enum, Index, Interval, MetaData, SmallInteger, Table, Text

from pyairtable_mesh.runtime.columns import Timestamp, text
from pyairtable_mesh.user.domain import Status

METADATA = MetaData()

ID_LENGTH = 29

USERS = Table(
    "users",
    METADATA,
    Column("tenant_id", text(ID_LENGTH), primary_key=True),
    Column("id", text(ID_LENGTH), primary_key=True),
    Column("email", text(254), nullable=False),
    Column("display_name", Text(), nullable=False),
    Column("display_key", text(), nullable=False),
    Column("given_name", Text(), nullable=False),
    Column("family_name", Text(), nullable=False),
    Column("job_title", Text(), nullable=False),
    Column("avatar_uri", Text(), nullable=False),
    Column("status", Enum(Status, native_enum=False, length=16), nullable=False),
    Column("status_reason", Text(), nullable=False),
    Column("email_verified", Boolean(), nullable=False),
    Column("pending_email", text(254), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Column("update_time", Timestamp(), nullable=False),
    Column("delete_time", Timestamp()),
)
Index("users_by_display_key", USERS.c.tenant_id, USERS.c.display_key, USERS.c.id)
# Among users that are not deleted, says its migration; to say it here would load the dialects of both databases.
Index("users_by_email", USERS.c.tenant_id, USERS.c.email, unique=True)

PREFERENCES = Table(
    "user_preferences",
    METADATA,
    Column("tenant_id", text(ID_LENGTH), primary_key=True),
    Column("user_id", text(ID_LENGTH), primary_key=True),
    Column("locale", Text(), nullable=False),
    Column("time_zone", Text(), nullable=False),
    Column("theme", Text(), nullable=False),
    Column("density", Text(), nullable=False),
    Column("date_format", Text(), nullable=False),
    Column("time_format", Text(), nullable=False),
    Column("first_day_of_week", Text(), nullable=False),
    Column("reduced_motion", Boolean(), nullable=False),
    Column("update_time", Timestamp(), nullable=False),
)

SETTINGS = Table(
    "user_settings",
    METADATA,
    Column("tenant_id", text(ID_LENGTH), primary_key=True),
    Column("user_id", text(ID_LENGTH), primary_key=True),
    Column("discoverable", Boolean(), nullable=False),
    Column("presence_visible", Boolean(), nullable=False),
    Column("session_idle_timeout", Interval()),
    Column("update_time", Timestamp(), nullable=False),
)

GROUPS = Table(
    "user_groups",
    METADATA,
    Column("tenant_id", text(ID_LENGTH), primary_key=True),
    Column("id", text(ID_LENGTH), primary_key=True),
    Column("display_name", Text(), nullable=False),
    Column("display_key", text(), nullable=False),
    Column("description", Text(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Column("update_time", Timestamp(), nullable=False),
)
Index("user_groups_by_display_key", GROUPS.c.tenant_id, GROUPS.c.display_key, GROUPS.c.id)

TERMS = Table(
    "user_terms",
    METADATA,
    Column("tenant_id", text(ID_LENGTH), primary_key=True),
    Column("term", text(64), primary_key=True),
    Column("user_id", text(ID_LENGTH), primary_key=True),
    Column("edits", SmallInteger(), nullable=False),
    sqlite_with_rowid=False,
)
"""What users are found by (see `search`): no rows of those who are deleted or do not want to be found."""
Index("user_terms_by_user", TERMS.c.tenant_id, TERMS.c.user_id)
