"""Brings a store file of an older release up to the tables of this one."""

from __future__ import annotations

from sqlalchemy import Engine, delete, insert, select, text

from fogline.coordinator.store import tables as t
from fogline.wire.terms import ErrorKind, FoglineError

_STEPS: dict[int, tuple[str, ...]] = {
    2: (
        "INSERT INTO hosts (deployment, node, purge) SELECT DISTINCT deployment, node, false FROM desired",
        "ALTER TABLE desired ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE desired ADD COLUMN readers TEXT NOT NULL DEFAULT '[]'",
    ),
    3: ("ALTER TABLE revisions ADD COLUMN resolution TEXT NOT NULL DEFAULT '{}'",),
}
"""What leads from the schema before to that number, besides new tables, which are simply made."""


def bring_up(engine: Engine) -> None:
    """Make what is missing, all or nothing. Raises FoglineError for a store of a newer release."""
    with engine.begin() as connection:
        t.meta.create(connection, checkfirst=True)
        found = connection.execute(select(t.meta.c.value).where(t.meta.c.key == "schema")).scalar()
        version = t.SCHEMA_VERSION if found is None else int(found)
        if version > t.SCHEMA_VERSION:
            sentence = f"the store was written by a newer coordinator (schema {found}): upgrade this one"
            raise FoglineError(ErrorKind.VERSION_MISMATCH, sentence)
        # Writing first opens the transaction: SQLite's driver opens none for a change of tables alone.
        connection.execute(delete(t.meta).where(t.meta.c.key == "schema"))
        connection.execute(insert(t.meta).values(key="schema", value=str(t.SCHEMA_VERSION)))
        t.metadata.create_all(connection)
        for number in range(version + 1, t.SCHEMA_VERSION + 1):
            for statement in _STEPS.get(number, ()):
                connection.execute(text(statement))
