"""What can be told of a checkpoint database by asking it."""

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import SchemaState, schema_state


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """Where its tables stand, and its clock less this host's; None where its clock is this host's."""

    schema: SchemaState
    clock_offset_seconds: float | None


def inspect_database(url: str, *, namespace: str) -> DatabaseFacts:
    """Ask a database; nothing is written.

    Raises:
        CheckpointUnavailable: it cannot be reached.
    """
    database = Database(url)
    try:
        offset = None if database.is_sqlite else database.read(_clock_offset)
    finally:
        database.close()
    return DatabaseFacts(schema_state(url, namespace), offset)


def _clock_offset(connection: Connection) -> float:
    told: float = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    return told - time.time()
