"""What every store of instances' output promises."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from backends.opening import open_logs
from orchestrator.capture.line import LogStream
from orchestrator.capture.log_store import EVERYTHING, LogReading, LogRow, LogStore, read_logs
from orchestrator.errors import OperatorError

NAMESPACE = "logged"
AWKWARD = "a'b\"c\\ \n\u202e %_ \U0001f600 \x1b[31m"


@pytest.fixture(params=["memory", "sqlite", "postgres_url", "redis_url"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogStore]:
    """One of each kind."""
    here = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.db"}
    url = here.get(request.param) or request.getfixturevalue(request.param)
    opened = open_logs(url, namespace=NAMESPACE)
    yield opened
    await opened.close()


def row(text: str, *, run_id: str, index: int = 0, number: int = 1, source: str = "s") -> LogRow:
    return LogRow(
        run_id=run_id,
        invocation_id="i",
        correlation_id="c",
        node="outer/files",
        indexes=(4, index),
        key="k",
        delivery=2,
        worker="w@h",
        source=f"{source}{index}",
        number=number,
        stream=LogStream.STDOUT,
        at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        text=text,
    )


def texts(rows: Sequence[LogRow]) -> list[str]:
    return [one.text for one in rows]


@pytest.fixture
def run_id() -> str:
    return uuid.uuid4().hex


async def test_a_row_is_read_as_it_was_written(store, run_id):
    written = row(AWKWARD, run_id=run_id)
    record = replace(written, number=2, stream=LogStream.LOG, level="INFO", logger="user", key=None, is_cut=True)
    record = replace(record, inner_node="outer/files/parse", attempt=1)
    await store.append([written, record])
    read = await read_logs(store, run_id)
    assert [replace(one, sequence=0) for one in read] == [written, record]


async def test_rows_are_read_in_the_order_they_were_written_in(store, run_id):
    await store.append([row(f"a{number}", run_id=run_id, number=number) for number in range(1, 6)])
    await store.append([row(f"b{number}", run_id=run_id, index=1, number=number) for number in range(1, 6)])
    read = await read_logs(store, run_id)
    assert texts(read) == [f"{name}{number}" for name in "ab" for number in range(1, 6)]
    assert [one.sequence for one in read] == sorted({one.sequence for one in read})


async def test_rows_of_another_run_are_not_read(store, run_id):
    await store.append(
        [row("own", run_id=run_id), row("other", run_id=f"{run_id}2"), row("own2", run_id=run_id, index=1)]
    )
    assert texts(await read_logs(store, run_id)) == ["own", "own2"]
    assert await read_logs(store, "nobody") == []


async def test_rows_are_selected_by_index_and_node(store, run_id):
    other = replace(row("other", run_id=run_id, index=7, source="t"), node="other")
    await store.append([row("first", run_id=run_id), row("seventh", run_id=run_id, index=7), other])
    assert texts(await read_logs(store, run_id, index=7)) == ["seventh", "other"]
    assert texts(await read_logs(store, run_id, node="outer/files")) == ["first", "seventh"]
    assert texts(await read_logs(store, run_id, index=7, node="other")) == ["other"]


async def test_a_page_ends_at_its_limit_and_says_where_the_next_begins(store, run_id):
    await store.append([row(f"{number}", run_id=run_id, number=number) for number in range(1, 6)])
    first, reached = await store.read(run_id, EVERYTHING, after=0, limit=3)
    rest, end = await store.read(run_id, EVERYTHING, after=reached, limit=3)
    assert (texts(first), texts(rest)) == (["1", "2", "3"], ["4", "5"])
    assert await store.read(run_id, EVERYTHING, after=end, limit=3) == ([], end)


async def test_reading_goes_on_with_what_has_come_since(store, run_id):
    reading = LogReading(store, run_id)
    await store.append([row("first", run_id=run_id)])
    assert [one.text async for one in reading.following()] == ["first"]
    assert [one.text async for one in reading.following()] == []
    await store.append([row("second", run_id=run_id, number=2)])
    assert [one.text async for one in reading.following()] == ["second"]


async def test_a_line_that_a_new_owner_keeps_again_is_read_once(store, run_id):
    lines = [row(f"{number}", run_id=run_id, number=number) for number in range(1, 4)]
    await store.append(lines[:2])
    await store.append(lines)
    assert texts(await read_logs(store, run_id)) == ["1", "2", "3"]


async def test_more_rows_than_a_page_are_all_read(store, run_id):
    await store.append([row(f"{number}", run_id=run_id, number=number) for number in range(1, 2502)])
    assert len(await read_logs(store, run_id)) == 2501


async def test_of_a_run_that_is_deleted_nothing_is_read(store, run_id):
    other = f"{run_id}2"
    await store.append([row("own", run_id=run_id), row("other", run_id=other)])
    await store.delete(run_id)
    await store.delete("nobody")
    assert (await read_logs(store, run_id), texts(await read_logs(store, other))) == ([], ["other"])
    await store.append([row("again", run_id=run_id)])
    assert texts(await read_logs(store, run_id)) == ["again"]


async def test_a_write_that_nobody_waits_for_any_more_says_whether_it_was_done(store, run_id):
    kept = 0
    for number in range(1, 11):
        write = asyncio.create_task(store.append([row("said", run_id=run_id, number=number)]))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait({write})
        kept += not write.cancelled()
    assert len(await read_logs(store, run_id)) == kept


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "postgresql://nobody@127.0.0.1:1/none"])
async def test_a_store_that_is_away_says_so(url):
    store = open_logs(url, namespace=NAMESPACE)
    try:
        with pytest.raises(OperatorError, match="cannot be used"):
            await store.append([row("lost", run_id="r")])
    finally:
        await store.close()


def test_loops_that_have_ended_leave_no_connection_behind(redis_url, run_id):
    store = open_logs(redis_url, namespace=NAMESPACE)
    for number in range(5):
        asyncio.run(store.append([row("said", run_id=run_id, number=number)]))
    with redis.Redis.from_url(redis_url) as client:
        names = [one["name"] for one in client.client_list()]
    assert names.count("rollforward-log") == 1
    asyncio.run(store.close())


async def test_rows_that_an_earlier_version_kept_in_redis_are_read(redis_url, run_id):
    store = open_logs(redis_url, namespace=NAMESPACE)
    fields = [run_id, "i", "c", "outer/files", "k", 2, "w@h", "s0", 1, None, None, "text", False]
    told = json.dumps([[4, 0], "stdout", "2026-01-02T03:04:05.678901+00:00", *fields])
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(f"{NAMESPACE}:log:{{{run_id}}}", told)
    (read,) = await read_logs(store, run_id)
    assert replace(read, sequence=0) == row("text", run_id=run_id)
    await store.close()
