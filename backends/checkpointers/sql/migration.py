"""Bringing a database to this version's tables, and telling where it stands."""

import threading
from enum import StrEnum
from hashlib import blake2b
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, bindparam, func, select

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.schema import checked, version_table
from orchestrator.errors import SchemaMismatch

_ALEMBIC = threading.Lock()
"""Alembic's `context` and `op` belong to the process: two revisions at once would run on each other's connections."""


class SchemaState(StrEnum):
    """Where the tables of a namespace stand, seen from this version of the code."""

    ABSENT = "absent"
    OLDER = "older"
    OK = "ok"
    NEWER = "newer"


def schema_state(url: str, namespace: str) -> SchemaState:
    """Look, and change nothing.

    Raises:
        CheckpointUnavailable: the database cannot be reached.
    """
    database = Database(url)
    try:
        if database.is_absent:
            return SchemaState.ABSENT
        return database.read(lambda connection: _state(connection, namespace))
    finally:
        database.close()


def migrate(url: str, namespace: str) -> SchemaState:
    """Bring the tables of a namespace to this version, and say where they stood before.

    Raises:
        SchemaMismatch: a newer version made them.
        CheckpointUnavailable: the database cannot be reached, or refuses it.
    """
    database = Database(url)
    try:
        return bring_up_to_date(database, namespace)
    finally:
        database.close()


def bring_up_to_date(database: Database, namespace: str) -> SchemaState:
    """The same on a database that is open; what is up to date is only looked at."""
    if not database.is_absent:
        state = database.read(lambda connection: _refuse_newer(_state(connection, namespace), namespace))
        if state is SchemaState.OK:
            return state
    return database.write(lambda connection: _migrate(connection, namespace))


def _migrate(connection: Connection, namespace: str) -> SchemaState:
    # SQLite's write transaction is a lock already; of several processes only the first finds something to do.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(bindparam("key", _lock_key(namespace)))))
    state = _refuse_newer(_state(connection, namespace), namespace)
    if state is not SchemaState.OK:
        with as_file(files("backends.checkpointers.sql") / "migrations") as folder:
            config = _config(str(folder))
            config.attributes["connection"] = connection
            config.attributes["namespace"] = checked(namespace)
            config.attributes["version_table"] = version_table(namespace)
            with _ALEMBIC:
                command.upgrade(config, "head")
    return state


def _state(connection: Connection, namespace: str) -> SchemaState:
    context = MigrationContext.configure(connection, opts={"version_table": version_table(namespace)})
    present = context.get_current_revision()
    if present is None:
        return SchemaState.ABSENT
    with as_file(files("backends.checkpointers.sql") / "migrations") as folder:
        script = ScriptDirectory.from_config(_config(str(folder)))
        known = {revision.revision for revision in script.walk_revisions()}
        if present not in known:
            return SchemaState.NEWER
        return SchemaState.OK if present == script.get_current_head() else SchemaState.OLDER


def _refuse_newer(state: SchemaState, namespace: str) -> SchemaState:
    if state is SchemaState.NEWER:
        raise SchemaMismatch(
            f"a newer rollforward made the checkpoint tables of namespace {namespace!r}; upgrade this installation, or "
            "set another ROLLFORWARD_NAMESPACE"
        )
    return state


def _config(folder: str) -> Config:
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _lock_key(namespace: str) -> int:
    digest = blake2b(f"rollforward schema {namespace}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
