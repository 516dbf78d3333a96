"""A server sees every open run at a bounded cost, however many runs a store keeps."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from backends.checkpointers.redis.keys import Keys
from backends.checkpointers.redis.store import RedisStore
from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import migrate
from backends.checkpointers.sql.run_table import RunTable
from backends.checkpointers.sql.schema import schema
from orchestrator.checkpoint.row import Mark, RunFilter, RunOrder, RunStatus
from tests.contract.checkpoint_case import ENDED, new_run, owned
from tests.service.redis import RedisServer

OPEN = frozenset((RunStatus.SUBMITTED, RunStatus.RUNNING, RunStatus.ORPHANED))
OLDEST = RunFilter(statuses=OPEN, order=RunOrder.OLDEST, limit=2000)
BY_END = RunFilter(order=RunOrder.ENDED, limit=2000)
NAMESPACE = "listed"
FIRST_AT = 1_700_000_000
COUNT = 3000
MIDDLE = Mark(datetime.fromtimestamp(FIRST_AT + COUNT / 2, UTC))
PAGES = {
    "the oldest": replace(OLDEST, limit=10),
    "further ones": replace(OLDEST, limit=10, after=MIDDLE),
    "those that ended since": RunFilter(
        statuses=frozenset((RunStatus.SUCCEEDED, RunStatus.CANCELLED)), order=RunOrder.ENDED, limit=10, after=MIDDLE
    ),
}


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    made = RedisStore(redis_url, namespace=NAMESPACE)
    yield made
    await made.close()


async def listed(store: RedisStore, which: RunFilter) -> list[str]:
    return [run.run_id for run in await store.list_runs(which)]


def without_indexes(redis_server: RedisServer, *, keep_mark: bool = False) -> None:
    """What a version has left that keeps no index of open and ended runs."""
    index = Keys(NAMESPACE).index
    with redis_server.client() as client:
        client.delete(f"{index}open", f"{index}ended", *([] if keep_mark else [f"{index}indexed"]))


async def test_runs_in_redis_from_before_there_were_indexes_are_indexed_when_they_are_seen(
    store: RedisStore, redis_server: RedisServer
) -> None:
    # More than are indexed by one call.
    names = [f"run-{number}" for number in range(1100)]
    for name in names:
        await store.create(new_run(name))
    await store.request_cancel("run-7")
    await owned(store, "orphaned", lease=ENDED)
    without_indexes(redis_server)
    assert await listed(store, OLDEST) == [name for name in names if name != "run-7"] + ["orphaned"]
    assert await listed(store, BY_END) == ["run-7"]


async def test_a_run_that_such_a_version_creates_later_is_seen_as_well(
    store: RedisStore, redis_server: RedisServer
) -> None:
    await store.create(new_run("before"))
    assert await listed(store, OLDEST) == ["before"]
    await store.create(new_run("after"))
    with redis_server.client() as client:
        client.zrem(f"{Keys(NAMESPACE).index}open", "after")
    assert await listed(store, OLDEST) == ["before", "after"]


async def test_no_entry_of_an_index_outlives_its_run(store: RedisStore, redis_server: RedisServer) -> None:
    await store.create(new_run("open"))
    await store.finish(await owned(store, "ended"), RunStatus.SUCCEEDED)
    await store.delete("open")
    await store.delete("ended")
    with redis_server.client() as client:
        assert list(client.scan_iter(f"{NAMESPACE}:*")) == []


async def test_each_script_that_says_how_a_run_stands_keeps_the_indexes(
    store: RedisStore, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        # Nothing is left to be caught up with.
        client.set(f"{Keys(NAMESPACE).index}indexed", str(2**52))
    ownership = await owned(store, "owned", lease=ENDED)
    await store.create(new_run("cancelled"))
    assert await listed(store, OLDEST) == ["owned", "cancelled"]
    await store.request_cancel("cancelled")
    assert await listed(store, BY_END) == ["cancelled"]
    await store.finish(ownership, RunStatus.FAILED)
    assert await listed(store, OLDEST) == []
    assert await listed(store, BY_END) == ["cancelled", "owned"]
    await store.acquire("owned", "owner-2", invocation_id="inv-2", lease=ENDED)
    assert await listed(store, OLDEST) == ["owned"]
    assert await listed(store, BY_END) == ["cancelled"]


def rows() -> list[dict[str, Any]]:
    """As many open runs as ended ones."""
    common = {"graph": "g", "fingerprint": "f", "correlation_id": "c", "epoch": 1, "schema_version": ""}
    made = []
    for number in range(COUNT):
        at = (FIRST_AT + number) * 1_000_000
        for status, ended_at in (("submitted", None), ("succeeded", at)):
            name = f"{status}-{number}"
            ids = {"run_id": name, "invocation_id": name, "is_cancel_requested": False}
            made.append({**common, **ids, "status": status, "created_at": at, "ended_at": ended_at})
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def many(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that keeps many runs, and knows how many."""
    url = f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    migrate(url, NAMESPACE)
    database = Database(url)
    runs = schema(NAMESPACE).runs
    database.write(lambda connection: connection.execute(insert(runs), rows()))
    database.write(lambda connection: connection.execute(text(f"ANALYZE {runs.name}")))
    yield database
    database.close()


def plan_of(connection: Connection, which: RunFilter) -> str:
    """How the database finds a list of runs."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    assert len(RunTable(schema(NAMESPACE)).list_runs(connection, which)) == which.limit
    event.remove(connection, "before_cursor_execute", note)
    ((statement, parameters),) = asked
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    told = connection.exec_driver_sql(f"{explain} {statement}", parameters)
    return "\n".join(str(row[-1]) for row in told)


@pytest.mark.parametrize("which", PAGES.values(), ids=PAGES)
def test_a_database_reads_a_page_from_its_index_in_order_and_no_more(many: Database, which: RunFilter) -> None:
    plan = many.read(lambda connection: plan_of(connection, which))
    assert f"ix_{NAMESPACE}_runs_ended_at" in plan, plan
    # What is sorted is at most what is of one time.
    assert "TEMP B-TREE FOR ORDER BY" not in plan, plan
    assert [line for line in plan.splitlines() if "Sort  (" in line and "Incremental" not in line] == [], plan
