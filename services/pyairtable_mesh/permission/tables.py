"""The tables of the permission service. Every key begins with the tenant; references are kept as text, ``type:id``."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from pyairtable_mesh.runtime.columns import Timestamp, text

METADATA = MetaData()

ROLE = Table(
    "role",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("role_id", text(29), primary_key=True),
    Column("display_name", Text(), nullable=False),
    Column("display_key", text(300), nullable=False),
    Column("description", Text(), nullable=False),
    Column("permissions", Text(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Column("update_time", Timestamp(), nullable=False),
    Column("creator", text(96), nullable=False),
    Column("revision", BigInteger(), nullable=False),
    Index("role_by_display_key", "tenant_id", "display_key", unique=True),
)
"""Custom roles; `permissions` are separated by spaces, `display_key` is what must be unique in a tenant."""

ROLE_BINDING = Table(
    "role_binding",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("binding_id", text(29), primary_key=True),
    Column("role", text(29), nullable=False),
    Column("resource", text(96), nullable=False),
    Column("subject", text(96), nullable=False),
    Column("condition", text(50), nullable=False),
    Column("context", Text(), nullable=False),
    Column("expire_time", Timestamp()),
    Column("create_time", Timestamp(), nullable=False),
    Column("creator", text(256), nullable=False),
    Column("revision", BigInteger(), nullable=False),
    Index("role_binding_by_resource", "tenant_id", "resource", "subject", "role", unique=True),
    Index("role_binding_by_subject", "tenant_id", "subject", "binding_id"),
    Index("role_binding_by_role", "tenant_id", "role", "binding_id"),
)
"""Roles bound to subjects; `role` is the id of a system or custom role."""

RELATIONSHIP = Table(
    "relationship",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("resource", text(96), primary_key=True),
    Column("relation", text(50), primary_key=True),
    Column("subject", text(96), primary_key=True),
    Column("condition", text(50), nullable=False),
    Column("context", Text(), nullable=False),
    Column("expire_time", Timestamp()),
    Column("revision", BigInteger(), nullable=False),
    Index("relationship_by_subject", "tenant_id", "subject", "relation", "resource"),
)
"""Parent links and group memberships."""

INHERITANCE = Table(
    "inheritance",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("resource", text(96), primary_key=True),
    Column("mode", text(16), nullable=False),
    Column("revision", BigInteger(), nullable=False),
)
"""Scope modes other than INHERIT."""

REVISION = Table(
    "revision",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("revision", BigInteger(), nullable=False),
)
"""How many changes a tenant has seen."""

CLAIM = Table(
    "claim",
    METADATA,
    Column("code_hash", text(64), primary_key=True),
    Column("tenant", text(29), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
)
"""Codes for a first administrator that were used, as SHA-256 in hex. Global: a code makes one owner of one tenant."""

FAILED_CLAIM = Table(
    "failed_claim",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("claim_id", text(29), primary_key=True),
    Column("subject", text(96), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Index("failed_claim_by_time", "tenant_id", "create_time"),
)
"""Claims with a wrong code, kept for as long as they count."""

CHANGELOG = Table(
    "changelog",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("space", text(29), primary_key=True),
    Column("revision", BigInteger(), primary_key=True, autoincrement=False),
    Column("ordinal", Integer(), primary_key=True, autoincrement=False),
    Column("kind", text(16), nullable=False),
    Column("payload", LargeBinary(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Index("changelog_by_time", "create_time"),
)
"""What each revision did, in order, with what was there before; pruned when it is older than the history window."""

MODEL_SPACE = Table(
    "model_space",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("space_id", text(29), primary_key=True),
    Column("display_name", Text(), nullable=False),
    Column("display_key", text(300), nullable=False),
    Column("schema_id", text(29), nullable=False),
    Column("revision", BigInteger(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Column("creator", text(96), nullable=False),
    Index("model_space_by_display_key", "tenant_id", "display_key", unique=True),
)
"""Models that tenants bring; `schema_id` is the current version, empty before the first."""

MODEL_SCHEMA = Table(
    "model_schema",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("schema_id", text(29), primary_key=True),
    Column("space_id", text(29), nullable=False),
    Column("source", Text(), nullable=False),
    Column("create_time", Timestamp(), nullable=False),
    Column("creator", text(96), nullable=False),
    Index("model_schema_by_space", "tenant_id", "space_id", "schema_id"),
)
"""Versions of their schemas; a row never changes."""

SPACE_RELATIONSHIP = Table(
    "space_relationship",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("space_id", text(29), primary_key=True),
    Column("resource", text(180), primary_key=True),
    Column("relation", text(50), primary_key=True),
    Column("subject", text(240), primary_key=True),
    Column("condition", text(50), nullable=False),
    Column("context", Text(), nullable=False),
    Column("expire_time", Timestamp()),
    Index("space_relationship_by_subject", "tenant_id", "space_id", "subject"),
)
"""Relationships of these models; `context` is JSON, empty where there is no condition."""
