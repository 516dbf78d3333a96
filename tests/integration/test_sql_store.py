"""What a SQL store does when others hold it up, and how fast it records."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select, text

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.fence import owned as hold
from backends.checkpointers.sql.schema import schema
from backends.checkpointers.sql.store import SqlStore
from backends.status.sql_log import SqlLogStore
from backends.status.sql_status import SqlStatusStore
from orchestrator.checkpoint.row import Ownership
from tests.contract.checkpoint_case import contribution, fill, owned
from tests.contract.test_log_store import row as log_row
from tests.contract.test_status_store import row as status_row

NAMESPACE = "held"
TABLES = schema(NAMESPACE).metadata.sorted_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@contextmanager
def write_under_way(url: str, ownership: Ownership) -> Iterator[None]:
    """A transaction that has passed its epoch check and is not committed yet."""
    begun, may_end = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        hold(connection, schema(NAMESPACE), ownership)
        begun.set()
        assert may_end.wait(30)

    database = Database(url)
    thread = threading.Thread(target=database.write, args=[work])
    thread.start()
    try:
        assert begun.wait(30)
        yield
    finally:
        may_end.set()
        thread.join()
        database.close()


def waits(url: str) -> bool:
    statement = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    database = Database(url)
    try:
        return bool(database.read(lambda db: db.execute(statement).scalar_one()))
    finally:
        database.close()


async def test_a_takeover_waits_for_a_write_that_has_passed_its_check(url):
    store = SqlStore(url, namespace=NAMESPACE)
    try:
        ownership = await owned(store, lease=timedelta(seconds=-5))
        with write_under_way(url, ownership):
            taking = asyncio.create_task(
                store.acquire("run-1", "owner-2", invocation_id="inv-2", lease=timedelta(minutes=1))
            )
            if url.startswith("postgresql"):
                async with asyncio.timeout(20):
                    while not await asyncio.to_thread(waits, url):
                        pass
            assert (await store.find("run-1")).epoch == 1
            assert not taking.done()
        assert (await taking).epoch == 2
    finally:
        await store.close()


async def test_readers_do_not_wait_for_a_writer(url):
    store = SqlStore(url, namespace=NAMESPACE)
    try:
        ownership = await owned(store)
        with write_under_way(url, ownership):
            assert await store.steps("run-1")
    finally:
        await store.close()


async def tell_of_it(url: str) -> None:
    """Keep a status row with a tag and a line of output beside the record of the run."""
    statuses, logs = SqlStatusStore(url, namespace=NAMESPACE), SqlLogStore(url, namespace=NAMESPACE)
    try:
        await statuses.append([status_row("run-1", tags={"tenant": "acme"})])
        await logs.append([log_row("out", run_id="run-1")])
    finally:
        await statuses.close()
        await logs.close()


async def test_a_deleted_run_leaves_no_row(url):
    store, database = SqlStore(url, namespace=NAMESPACE), Database(url)

    def rows(connection: Connection) -> list[int]:
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES]

    try:
        await fill(store)
        await tell_of_it(url)
        assert 0 not in database.read(rows)
        await store.delete("run-1")
        assert set(database.read(rows)) == {0}
    finally:
        database.close()
        await store.close()


async def test_20000_instances_are_recorded_in_seconds(url):
    store = SqlStore(url, namespace=NAMESPACE)
    try:
        ownership = await owned(store)
        rows = [contribution(index) for index in range(20_000)]
        began = time.monotonic()
        for first in range(0, len(rows), 100):
            assert await store.record(ownership, rows[first : first + 100]) == 100
        assert time.monotonic() - began < 4
        assert sum([1 async for _ in store.slots("run-1", rows[0].report.slot.fan_out)]) == 20_000
    finally:
        await store.close()


@pytest.mark.parametrize(("is_durable", "level"), [(True, 2), (False, 1)])
def test_only_what_must_survive_the_host_waits_for_its_disk(tmp_path, is_durable, level):
    database = Database(f"sqlite:///{tmp_path}/state.db", is_durable=is_durable)
    try:
        assert database.write(lambda db: db.scalar(text("PRAGMA synchronous"))) == level
    finally:
        database.close()
