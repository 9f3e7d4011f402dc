"""The tables of the newest schema, for queries. `registry.migrations` has their history."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, ForeignKeyConstraint, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData()

MODELS = Table(
    "models",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("latest", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)
VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", String(128), ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("document", Text, nullable=False),  # ModelVersion as JSON
    Column("created_at", Float, nullable=False),
    Index("versions_by_digest", "digest"),
)
ALIASES = Table(
    "aliases",
    METADATA,
    Column("model", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)
DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("model", String(128), ForeignKey("models.name"), primary_key=True),
    Column("revision", Integer, primary_key=True),  # with the model the primary key: nobody can commit a revision twice
    Column("document", Text, nullable=False),  # Deployment as JSON
    Column("created_at", Float, nullable=False),
)
AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("created_at", Float, nullable=False),
    Column("author", Text, nullable=False),
    Column("verb", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("audit_by_model", "model", "id"),
    sqlite_autoincrement=True,
)
REQUESTS = Table(
    "requests",
    METADATA,
    Column("request_id", String(128), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Index("requests_by_age", "created_at"),
)
