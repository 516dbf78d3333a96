"""What a SQL store does when others hold it up, and how much it does to record."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select, text

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.fence import owned as hold
from backends.checkpointers.sql.schema import schema
from backends.checkpointers.sql.store import SqlStore
from backends.status.sql_log import SqlLogStore
from backends.status.sql_status import SqlStatusStore
from orchestrator.capture.log_store import LogReading
from orchestrator.checkpoint.row import Ownership
from tests.contract.checkpoint_case import contribution, fill, owned
from tests.contract.test_log_store import row as log_row
from tests.contract.test_status_store import row as status_row
from tests.service.database_work import database_work

NAMESPACE = "held"
TABLES = schema(NAMESPACE).metadata.sorted_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def write_under_way(url: str, ownership: Ownership) -> AbstractContextManager[None]:
    """A transaction that has passed its epoch check and is not committed yet."""
    return under_way(url, lambda connection: hold(connection, schema(NAMESPACE), ownership))


@contextmanager
def under_way(url: str, act: Callable[[Connection], object]) -> Iterator[None]:
    """A transaction that has done something and is not committed yet."""
    begun, may_end = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        act(connection)
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


def waiting(url: str) -> int:
    """How many transactions wait for a lock."""
    statement = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    database = Database(url)
    try:
        return int(database.read(lambda db: db.execute(statement).scalar_one()))
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
                    while not await asyncio.to_thread(waiting, url):
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


async def test_recording_takes_no_more_work_however_much_is_recorded(url):
    rows = [contribution(index) for index in range(2_000)]
    with database_work() as taken:
        store = SqlStore(url, namespace=NAMESPACE)
        try:
            ownership = await owned(store)
            del taken[:]
            for first in range(0, len(rows), 100):
                assert await store.record(ownership, rows[first : first + 100]) == 100
        finally:
            await store.close()
    assert len(taken) == 20
    assert 0 < min(taken) == max(taken)


@pytest.mark.parametrize(("is_durable", "level"), [(True, 2), (False, 1)])
def test_only_what_must_survive_the_host_waits_for_its_disk(tmp_path, is_durable, level):
    database = Database(f"sqlite:///{tmp_path}/state.db", is_durable=is_durable)
    try:
        assert database.write(lambda db: db.scalar(text("PRAGMA synchronous"))) == level
    finally:
        database.close()


HOLD_UP = """
CREATE OR REPLACE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.text = 'held up' THEN PERFORM pg_advisory_xact_lock(4242); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER held_up AFTER INSERT ON followed_log FOR EACH ROW EXECUTE FUNCTION hold_up();
"""


def prepare(url: str) -> None:
    """Have whoever writes the line `held up` wait with its commit while somebody else has the lock 4242."""
    database = Database(url)
    try:
        database.write(lambda db: db.exec_driver_sql(HOLD_UP))
    finally:
        database.close()


async def test_who_follows_a_run_misses_no_line_that_another_writer_commits_late(postgres_url):
    slow, quick, read = (SqlLogStore(postgres_url, namespace="followed") for _ in range(3))
    reading, seen = LogReading(read, "r"), list[str]()
    try:
        await slow.append([log_row("first", run_id="r", source="a")])
        prepare(postgres_url)
        with under_way(postgres_url, lambda db: db.exec_driver_sql("SELECT pg_advisory_xact_lock(4242)")):
            writing = [asyncio.create_task(slow.append([log_row("held up", run_id="r", source="b")]))]
            while not await asyncio.to_thread(waiting, postgres_url):
                pass
            writing.append(asyncio.create_task(quick.append([log_row("quick", run_id="r", source="c")])))
            await read.append([log_row("another run", run_id="s")])
            while await asyncio.to_thread(waiting, postgres_url) < 2 and not writing[1].done():
                pass
            seen.extend([row.text async for row in reading.following()])
        await asyncio.gather(*writing)
        seen.extend([row.text async for row in reading.following()])
        assert sorted(seen) == ["first", "held up", "quick"]
    finally:
        await asyncio.gather(*(store.close() for store in (slow, quick, read)))
