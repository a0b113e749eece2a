"""The tables of the audit service; every key begins with the tenant."""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table

from pyairtable_mesh.runtime.columns import Timestamp, text

METADATA = MetaData()

CHAINS = Table(
    "audit_chains",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("sequence", BigInteger(), nullable=False),
    Column("hash", LargeBinary(), nullable=False),
)
"""The head of each chain; without it nobody would miss entries that were cut off its end."""

EVENTS = Table(
    "audit_events",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("sequence", BigInteger(), primary_key=True, autoincrement=False),
    Column("audit_id", text(29), nullable=False),
    Column("event_id", text(29), nullable=False),
    Column("event_time", Timestamp(), nullable=False),
    Column("subject", text(256), nullable=False),
    Column("workload", text(2048), nullable=False),
    Column("action", text(256), nullable=False),
    Column("resource", text(256), nullable=False),
    Column("outcome", text(16), nullable=False),
    Column("correlation_id", text(128), nullable=False),
    Column("trace_id", text(32), nullable=False),
    Column("content", LargeBinary(), nullable=False),
    Column("previous_hash", LargeBinary(), nullable=False),
    Column("hash", LargeBinary(), nullable=False),
    Index("audit_events_by_event_id", "tenant_id", "event_id", unique=True),
    Index("audit_events_by_subject", "tenant_id", "subject", "sequence"),
    Index("audit_events_by_resource", "tenant_id", "resource", "sequence"),
)
"""`content` is what is hashed; the columns before it repeat parts of it, to be filtered by."""

PERSONAL_DATA = Table(
    "audit_personal_data",
    METADATA,
    Column("tenant_id", text(29), primary_key=True),
    Column("sequence", BigInteger(), primary_key=True, autoincrement=False),
    Column("salt", LargeBinary(), nullable=False),
    Column("data", LargeBinary(), nullable=False),
)
"""Stands beside the chain; erasure deletes rows here and nothing else."""
