"""Tables of the coordinator's store, and the pragmas of the embedded database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.pool import StaticPool

SCHEMA_VERSION = 3
"""Raised with a step in `schema` whenever an older file needs more than new tables."""

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))

nodes = Table(
    "nodes",
    metadata,
    Column("name", String, primary_key=True),
    Column("facts", LargeBinary, nullable=False),  # NodeFacts, as it came
    Column("release", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("generation", Integer, nullable=False, default=0),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String, primary_key=True),
    Column("state", Text, nullable=False),  # core.deployment.Deployment as JSON
)

revisions = Table(
    "revisions",
    metadata,
    Column("deployment", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("document", LargeBinary, nullable=False),  # JSON, without passwords
    Column("artifacts", Text, nullable=False),  # JSON: stage -> digest
    Column("created_at", Float, nullable=False),
    Column("succeeded", Boolean),  # NULL: no verdict yet
    Column("verdict", Text, nullable=False, default=""),
    Column("resolution", Text, nullable=False, server_default="{}"),  # JSON: core.locks.Resolution
)

locks = Table(
    "locks",  # the newest lock for what was asked for, whichever pipeline asked
    metadata,
    Column("requirements_digest", String, primary_key=True),
    Column("target", String, primary_key=True),
    Column("digest", String, nullable=False),
)

specs = Table(
    "specs",
    metadata,
    Column("digest", String, primary_key=True),
    Column("spec", LargeBinary, nullable=False),
)

desired = Table(
    "desired",
    metadata,
    Column("node", String, primary_key=True),
    Column("assignment", String, primary_key=True),
    Column("spec_digest", String, primary_key=True),
    Column("deployment", String, nullable=False, index=True),
    Column("segment", String, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("wanted", String, nullable=False),
    Column("bind", Boolean, nullable=False),
    Column("release", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),  # of the node, when this line last changed
    Column("incarnation", Integer, nullable=False, server_default="0"),
    Column("readers", Text, nullable=False, server_default="[]"),  # JSON: client ids to be released
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),  # seconds since the epoch
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("deployment", String, nullable=False, index=True),  # empty: about a node
    Column("revision", Integer, nullable=False),
    Column("node", String, nullable=False),
    Column("segment", String, nullable=False),
    sqlite_autoincrement=True,  # a number is never used twice
)

hosts = Table(
    "hosts",  # nodes that run or ran a deployment: its dead letters may lie there
    metadata,
    Column("deployment", String, primary_key=True),
    Column("node", String, primary_key=True),
    Column("purge", Boolean, nullable=False),  # the deployment was deleted: its dead letters go, once the node is here
)


def open_engine(url: str) -> Engine:
    """An engine with the one connection of the coordinator (SQLite: WAL, every commit synced)."""
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
