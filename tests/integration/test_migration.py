"""The revisions lead to the declared tables, from wherever a database stands."""

import asyncio
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import SchemaState, migrate, schema_state
from backends.checkpointers.sql.schema import schema, version_table
from backends.checkpointers.sql.store import SqlStore
from orchestrator.checkpoint.row import RunFilter
from orchestrator.errors import CallerError, SchemaMismatch

NAMESPACE = "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/100%/state.db"
    made: str = request.getfixturevalue("postgres_url")
    return made


def ask(url: str, work: Callable[[Connection], Any]) -> Any:
    database = Database(url)
    try:
        return database.write(work)
    finally:
        database.close()


def set_revision(url: str, revision: str) -> None:
    statement = text(f"UPDATE {version_table(NAMESPACE)} SET version_num = :revision")
    ask(url, lambda connection: connection.execute(statement, {"revision": revision}))


async def opened_and_listed(url: str, namespace: str = NAMESPACE) -> None:
    store = SqlStore(url, namespace=namespace)
    try:
        assert await store.list_runs(RunFilter()) == []
    finally:
        await store.close()


def test_the_revisions_lead_to_the_declared_tables(url):
    assert migrate(url, NAMESPACE) is SchemaState.ABSENT

    def difference(connection: Connection) -> Any:
        options = {"version_table": version_table(NAMESPACE), "compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), schema(NAMESPACE).metadata)

    assert ask(url, difference) == []


def test_the_revisions_make_the_very_tables_that_are_declared(tmp_path):
    def statements(connection: Connection) -> set[str]:
        told = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")).scalars()
        return {re.sub(r"\s+", " ", one) for one in told if version_table(NAMESPACE) not in one}

    migrated, declared = f"sqlite:///{tmp_path}/migrated.db", f"sqlite:///{tmp_path}/declared.db"
    migrate(migrated, NAMESPACE)
    ask(declared, schema(NAMESPACE).metadata.create_all)
    assert ask(migrated, statements) == ask(declared, statements) != set()


def test_migrating_again_changes_nothing(url):
    assert migrate(url, NAMESPACE) is SchemaState.ABSENT
    assert migrate(url, NAMESPACE) is SchemaState.OK


def test_looking_at_the_state_makes_no_file(tmp_path):
    assert schema_state(f"sqlite:///{tmp_path}/state.db", NAMESPACE) is SchemaState.ABSENT
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_each_namespace_is_its_own(url):
    migrate(url, NAMESPACE)
    assert schema_state(url, NAMESPACE) is SchemaState.OK
    assert schema_state(url, "other") is SchemaState.ABSENT


async def test_opening_a_store_makes_its_tables(url):
    await opened_and_listed(url)
    assert schema_state(url, NAMESPACE) is SchemaState.OK


async def test_stores_that_are_opened_at_once_make_the_tables_once(url):
    await asyncio.gather(*(opened_and_listed(url) for _ in range(6)))
    assert schema_state(url, NAMESPACE) is SchemaState.OK


async def test_several_databases_can_be_opened_at_once(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(8)]
    await asyncio.gather(*(opened_and_listed(url, f"space_{number}") for number, url in enumerate(urls)))
    assert {schema_state(url, f"space_{number}") for number, url in enumerate(urls)} == {SchemaState.OK}


async def test_tables_of_a_newer_version_are_refused_in_one_sentence(url):
    migrate(url, NAMESPACE)
    set_revision(url, "9999")
    assert schema_state(url, NAMESPACE) is SchemaState.NEWER
    with pytest.raises(SchemaMismatch, match="upgrade this installation"):
        migrate(url, NAMESPACE)
    with pytest.raises(SchemaMismatch, match="newer rollforward"):
        await opened_and_listed(url)


@pytest.mark.parametrize("namespace", ["", "1a", "a-b", "a;drop", "a b", "x" * 42, "é"])
def test_a_namespace_that_cannot_prefix_tables_is_refused(namespace):
    with pytest.raises(CallerError, match="ROLLFORWARD_NAMESPACE"):
        SqlStore("sqlite:///never.db", namespace=namespace)


@pytest.mark.parametrize("namespace", ["_", "Mixed", "x" * 41])
async def test_every_other_namespace_can(url, namespace):
    await opened_and_listed(url, namespace)
    assert schema_state(url, namespace) is SchemaState.OK


async def test_a_new_file_and_its_folder_are_for_their_owner_alone(tmp_path):
    path = tmp_path / "made" / "state.db"
    store = SqlStore(f"sqlite:///{path}", namespace=NAMESPACE)
    try:
        await store.list_runs(RunFilter())
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        await store.close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(["state.db", "state.db-wal", "state.db-shm"], 0o600)


def test_a_commit_is_synced_to_the_disk(tmp_path):
    settings = {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000}

    def told(connection: Connection) -> dict[str, Any]:
        return {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in settings}

    assert ask(f"sqlite:///{tmp_path}/state.db", told) == settings
