"""What every store of status rows promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.opening import open_status, open_store
from orchestrator.errors import OperatorError
from orchestrator.identity import Level
from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow, sound_text
from orchestrator.status.store import StatusFilter, StatusStore, get_status, read_once
from tests.contract.checkpoint_case import AWKWARD, new_run

NAMESPACE = "rows"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
QUEUED, RUNNING, SUCCESS, FAILED = (
    InstanceState.QUEUED,
    InstanceState.RUNNING,
    InstanceState.SUCCESS,
    InstanceState.FAILED,
)


@pytest.fixture(params=["memory", "sqlite", "postgres_url", "redis_url"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StatusStore]:
    """One of each kind."""
    here = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/state.db"}
    url = here.get(request.param) or request.getfixturevalue(request.param)
    opened = open_status(url, namespace=NAMESPACE)
    yield opened
    await opened.close()


@pytest.fixture
def run_id() -> str:
    return uuid.uuid4().hex


def row(run_id: str, state: InstanceState = RUNNING, index: int | None = 0, **more: Any) -> StatusRow:
    around = () if index is None else (Level("outer", 4), Level("files", index))
    told = {
        "run_id": run_id,
        "invocation_id": "i",
        "correlation_id": "c",
        "node": ("outer", "files"),
        "lineage": around,
        "index": index,
        "state": state,
        "at": AT,
        **more,
    }
    return StatusRow(**told)


async def test_a_row_is_read_as_it_was_written(store, run_id):
    text = sound_text(AWKWARD)
    written = row(
        run_id,
        FAILED,
        key=text,
        attempt=2,
        delivery=3,
        worker="w@h",
        duration_seconds=0.25,
        error_category="node_exception",
        error_type="ValueError",
        error_message=text,
        tags={"tenant": text, "state": "no column of that name", "sequence": "9"},
    )
    await store.append([written, row(run_id, index=None, lineage=(Level("par", None, "left"),))])
    first, second = await get_status(store, run=run_id)
    assert replace(first, sequence=0) == written
    assert (second.lineage, second.index, second.key, second.tags) == ((Level("par", None, "left"),), None, None, {})


async def test_rows_are_in_order_of_their_sequence_whatever_their_times_are(store, run_id):
    await store.append([row(run_id, at=AT), row(run_id, SUCCESS, at=AT - timedelta(days=1), tags={"a": "b"})])
    await store.append([row(run_id, FAILED, at=AT - timedelta(days=2))])
    found = await get_status(store, run=run_id)
    assert [one.state for one in found] == [RUNNING, SUCCESS, FAILED]
    sequences = [one.sequence for one in found]
    assert sequences == sorted(set(sequences))
    assert sequences[0] > 0


async def test_no_rows_are_written_and_none_are_found(store, run_id):
    await store.append([])
    assert list(await get_status(store, run=run_id)) == []


async def test_rows_are_found_by_run_node_index_and_state(store, run_id):
    other = f"{run_id}-other"
    await store.append([row(run_id, index=n) for n in range(3)] + [row(run_id, SUCCESS, index=1)])
    await store.append([row(run_id, node=("outer",), lineage=(Level("outer", 1),), index=1), row(other)])
    assert len(await get_status(store, run=run_id)) == 5
    assert len(await get_status(store, run=run_id, node="outer/files")) == 4
    assert len(await get_status(store, run=run_id, node=["outer"])) == 1
    assert [one.state for one in await get_status(store, run=run_id, index=1)] == [RUNNING, SUCCESS, RUNNING]
    assert [one.index for one in await get_status(store, run=run_id, state="SUCCESS")] == [1]
    assert {one.run_id for one in await get_status(store)} >= {run_id, other}
    with pytest.raises(ValueError, match="DONE"):
        await get_status(store, state="DONE")


async def test_the_latest_row_of_each_subject_is_given_and_its_state_counts(store, run_id):
    again = row(run_id, RUNNING, lineage=(Level("outer", 5), Level("files", 0)))
    await store.append([row(run_id), row(run_id, index=1), again, row(run_id, SUCCESS, tags={"a": "b"})])
    latest = await get_status(store, run=run_id, latest=True)
    assert [(one.lineage[0].index, one.index, one.state) for one in latest] == [
        (4, 1, RUNNING),
        (5, 0, RUNNING),
        (4, 0, SUCCESS),
    ]
    assert latest[2].tags == {"a": "b"}
    assert [one.index for one in await get_status(store, run=run_id, latest=True, state="RUNNING")] == [1, 0]


@pytest.mark.parametrize(("which", "found"), [({}, [0, 1]), ({"latest": True}, [1, 0]), ({"state": SUCCESS}, [0, 2])])
async def test_of_what_is_wanted_the_first_ones_are_given(store, run_id, which, found):
    await store.append([row(run_id, index=0), row(run_id, index=1), row(run_id, SUCCESS, index=0, tags={"a": "b"})])
    await store.append([row(run_id, SUCCESS, index=index) for index in (2, 3)])
    rows = await store.read(StatusFilter(run_id, limit=2, **which))
    assert [one.index for one in rows] == found
    assert [one.tags for one in rows] == [{"a": "b"} if one.state is SUCCESS and not one.index else {} for one in rows]


async def test_rows_that_were_kept_twice_are_given_once(store, run_id):
    rows = [row(run_id, state, index=n, tags={"a": "b", "n": str(n)}) for n in range(3) for state in (QUEUED, RUNNING)]
    for kept in (rows[:4], rows, [row(run_id, SUCCESS, at=AT + timedelta(microseconds=1))]):
        await store.append(kept)
    told = [(n, state) for n in range(3) for state in (QUEUED, RUNNING)] + [(0, SUCCESS)]
    found = await get_status(store, run=run_id)
    assert [(one.index, one.state) for one in found] == told
    assert [one.sequence for one in found] == sorted({one.sequence for one in found})
    assert [one.index for one in await get_status(store, run=run_id, state="QUEUED")] == [0, 1, 2]
    latest = await get_status(store, run=run_id, latest=True)
    assert [(one.index, one.state) for one in latest] == [(1, RUNNING), (2, RUNNING), (0, SUCCESS)]
    for limit in range(9):
        first = await read_once(store, StatusFilter(run_id, limit=limit))
        assert [(one.index, one.state) for one in first] == told[:limit]


async def test_many_rows_keep_their_order_and_their_tags(store, run_id):
    rows = [row(run_id, index=n, tags={"n": str(n)} if n % 3 else {}) for n in range(2500)]
    await store.append(rows)
    found = await store.read(StatusFilter(run_id))
    assert [(one.index, one.tags) for one in found] == [(one.index, one.tags) for one in rows]


async def test_several_may_write_at_once_and_no_row_is_lost(store, run_id):
    runs = [f"{run_id}-{n}" for n in range(4)]
    await asyncio.gather(*(store.append([row(run, index=n)]) for n in range(20) for run in runs))
    for run in runs:
        found = await get_status(store, run=run)
        assert {one.index for one in found} == set(range(20))
        assert len({one.sequence for one in found}) == 20


async def test_a_write_that_nobody_waits_for_any_more_says_whether_it_was_done(store, run_id):
    kept = 0
    for number in range(1, 11):
        write = asyncio.create_task(store.append([row(run_id, index=number)]))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait({write})
        kept += not write.cancelled()
    assert len(await get_status(store, run=run_id)) == kept


async def test_the_rows_of_a_run_are_dropped_on_request(store, run_id):
    await store.append([row(run_id, tags={"a": "b"}), row(f"{run_id}-other", tags={"a": "b"})])
    await store.delete(run_id)
    await store.delete(run_id)
    assert list(await get_status(store, run=run_id)) == []
    assert [one.tags for one in await get_status(store, run=f"{run_id}-other")] == [{"a": "b"}]
    await store.append([row(run_id)])
    assert len({one.sequence for one in await get_status(store)}) == len(await get_status(store))


@pytest.mark.parametrize("kind", ["sqlite", "postgres_url"])
async def test_a_run_that_is_deleted_takes_its_rows_along(kind, tmp_path, request, run_id):
    url = f"sqlite:///{tmp_path}/state.db" if kind == "sqlite" else request.getfixturevalue(kind)
    runs, store = open_store(url, namespace=NAMESPACE), open_status(url, namespace=NAMESPACE)
    await runs.create(new_run(run_id))
    await store.append([row(run_id, tags={"a": "b"}), row(f"{run_id}-other", tags={"a": "b"})])
    await runs.delete(run_id)
    assert list(await get_status(store, run=run_id)) == []
    assert [one.tags for one in await get_status(store, run=f"{run_id}-other")] == [{"a": "b"}]
    await store.close()
    await runs.close()


async def test_what_is_kept_outlives_its_store(tmp_path, run_id):
    for state in (RUNNING, SUCCESS):
        store = open_status(f"sqlite:///{tmp_path}/state.db", namespace=NAMESPACE)
        await store.append([row(run_id, state)])
        await store.close()
    store = open_status(f"sqlite:///{tmp_path}/state.db", namespace=NAMESPACE)
    assert [one.state for one in await get_status(store)] == [RUNNING, SUCCESS]
    await store.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "sqlite:////proc/none/state.db"])
async def test_a_store_that_is_away_says_so_as_an_operator_s_error(url):
    store = open_status(url, namespace=NAMESPACE)
    with pytest.raises(OperatorError):
        await store.append([row("r")])
    with pytest.raises(OperatorError):
        await get_status(store)
    await store.close()
