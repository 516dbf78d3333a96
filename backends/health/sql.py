"""What can be told of a checkpoint database by asking it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import SchemaState, schema_state
from backends.health.file_system import file_system_of

_POSTGRESQL_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "transaction_read_only")
_SQLITE_SETTINGS = ("journal_mode", "synchronous")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """Where its tables stand, and how much a commit of ours is worth there.

    `settings` are as our own connections have them; a SQLite file that is absent has none. `clock_offset_seconds` is
    its clock less this host's, None where it has none of its own. `host` is None where no network lies between,
    `is_encrypted` tells of the connection. `file` and `file_system` are of SQLite only.
    """

    schema: SchemaState
    settings: Mapping[str, str]
    clock_offset_seconds: float | None = None
    host: str | None = None
    is_encrypted: bool = False
    file: Path | None = None
    file_system: str | None = None


def inspect_database(url: str, *, namespace: str) -> DatabaseFacts:
    """Ask a database; nothing is written.

    Raises:
        CheckpointUnavailable: it cannot be reached.
    """
    schema = schema_state(url, namespace)
    database = Database(url)
    try:
        return _sqlite(database, schema) if database.is_sqlite else _postgresql(database, schema)
    finally:
        database.close()


def _sqlite(database: Database, schema: SchemaState) -> DatabaseFacts:
    file = Path(database.url.database or "").resolve()
    settings = {} if database.is_absent else database.read(_pragmas)
    return DatabaseFacts(schema=schema, settings=settings, file=file, file_system=file_system_of(file))


def _postgresql(database: Database, schema: SchemaState) -> DatabaseFacts:
    host = database.url.query.get("host", database.url.host)
    name = str(host[0] if isinstance(host, tuple) else host or "")
    return DatabaseFacts(
        schema=schema,
        settings=database.read(_shown),
        clock_offset_seconds=database.read(_clock_offset),
        host=None if not name or name.startswith(("/", "@")) else name,
        is_encrypted=database.read(_is_encrypted),
    )


def _pragmas(connection: Connection) -> Mapping[str, str]:
    return {name: str(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in _SQLITE_SETTINGS}


def _shown(connection: Connection) -> Mapping[str, str]:
    shown = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in _POSTGRESQL_SETTINGS}
    is_standby = connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
    return {**shown, "is_standby": "on" if is_standby else "off"}


def _clock_offset(connection: Connection) -> float:
    before = time.time()
    told: float = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    return told - (before + time.time()) / 2


def _is_encrypted(connection: Connection) -> bool:
    asked = text("SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)")
    return bool(connection.execute(asked).scalar_one())
