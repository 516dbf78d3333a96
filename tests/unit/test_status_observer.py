"""How status rows come to their store, and what becomes of them where it is away."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointUnavailable
from orchestrator.identity import Level
from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.event import (
    Event,
    InstanceEvent,
    InstanceState,
    InvocationEvent,
    InvocationState,
    NodeEvent,
    Phase,
)
from orchestrator.state import State
from orchestrator.status.observer import StatusObserver
from orchestrator.status.row import LONGEST_MESSAGE, StatusRow, row_of
from orchestrator.status.store import MemoryStatusStore

PLACE: dict[str, Any] = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
LONG = 3600.0


def instance(index: int = 0, state: InstanceState = InstanceState.RUNNING, **more: Any) -> InstanceEvent:
    place = {**PLACE, "namespace": ("each",), "fan_out_index_chain": (index,), "branch_name_chain": (None,)}
    return InstanceEvent(**{**place, "state": state, **more})


def ended(run_id: str = "r", state: InvocationState = InvocationState.SUCCEEDED) -> InvocationEvent:
    return InvocationEvent(**{**PLACE, "run_id": run_id}, graph="g", state=state)


class Failing(MemoryStatusStore):
    """A store that is away as long as it is told to be; it keeps the sizes of what it was given."""

    def __init__(self, *, is_away: bool = False) -> None:
        super().__init__()
        self.is_away = is_away
        self.sizes: list[int] = []

    async def append(self, rows: Sequence[StatusRow]) -> None:
        if self.is_away:
            raise CheckpointUnavailable("the disk is full")
        self.sizes.append(len(rows))
        await super().append(rows)


async def told(observer: StatusObserver, *events: Event) -> None:
    for event in events:
        await observer(event)


async def test_the_end_of_an_invocation_writes_all_that_waits_before_it_is_told_on():
    store = Failing()
    observer = StatusObserver(store, flush_interval=LONG)
    await told(observer, instance(0), instance(1))
    assert store.sizes == []
    await observer(ended())
    assert store.sizes == [2]


async def test_the_beginning_of_an_invocation_writes_nothing():
    store = Failing()
    observer = StatusObserver(store, flush_interval=LONG)
    await told(observer, instance(0), ended(state=InvocationState.STARTED))
    assert store.sizes == []
    await observer.close()


async def test_a_store_that_is_up_loses_nothing_however_many_rows_come_at_once():
    observer = StatusObserver(Failing(), flush_interval=LONG, flush_every=10, most_waiting=100)
    await told(observer, *(instance(index) for index in range(1000)), ended())
    assert (len(await observer.get_status()), observer.dropped) == (1000, 0)


async def test_each_row_is_written_at_once_where_that_is_asked():
    store = Failing()
    await told(StatusObserver(store, flush_interval=LONG, flush_on_write=True), instance(0), instance(1))
    assert store.sizes == [1, 1]


async def test_rows_are_written_when_the_interval_is_over():
    store = Failing()
    observer = StatusObserver(store, flush_interval=0.01)
    await told(observer, instance(0), instance(1))
    await until(lambda: store.sizes == [2])


async def test_rows_are_written_when_enough_of_them_wait():
    store = Failing()
    observer = StatusObserver(store, flush_interval=LONG, flush_every=3)
    await told(observer, *(instance(index) for index in range(7)))
    await until(lambda: sum(store.sizes) >= 6)
    assert max(store.sizes) == 3
    await observer.close()
    assert sum(store.sizes) == 7


async def test_rows_that_cannot_be_written_wait_and_are_said_once(caplog: pytest.LogCaptureFixture):
    store = Failing(is_away=True)
    observer = StatusObserver(store, flush_interval=LONG)
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            await told(observer, instance(index), ended())
    assert [record.message for record in caplog.records] == ["status rows cannot be written, they wait"]
    assert "disk is full" in (observer.health or "")
    store.is_away = False
    await observer(ended())
    assert [row.index for row in await observer.get_status()] == [0, 1, 2]
    assert observer.dropped == 0


async def test_when_too_many_wait_the_oldest_are_dropped_and_counted(caplog: pytest.LogCaptureFixture):
    store = Failing(is_away=True)
    observer = StatusObserver(store, flush_interval=LONG, most_waiting=5)
    with caplog.at_level(logging.WARNING):
        for index in range(8):
            await told(observer, instance(index), ended())
    assert observer.dropped == 3
    assert [record.message for record in caplog.records].count("status rows dropped, too many wait") == 1
    store.is_away = False
    assert [row.index for row in await observer.get_status()] == [3, 4, 5, 6, 7]


async def test_what_cannot_be_written_at_the_end_is_counted():
    observer = StatusObserver(Failing(is_away=True), flush_interval=LONG)
    await told(observer, instance(0), instance(1))
    await observer.close()
    assert observer.dropped == 2


async def test_many_invocations_share_an_observer_and_mix_nothing():
    store = MemoryStatusStore()
    observer = StatusObserver(store)

    async def invocation(run_id: str) -> None:
        for index in range(20):
            await observer(instance(index, run_id=run_id))
            await asyncio.sleep(0)
        await observer(ended(run_id))

    await asyncio.gather(*(invocation(f"run-{number}") for number in range(50)))
    for number in range(50):
        assert [row.index for row in await observer.get_status(run=f"run-{number}")] == list(range(20))


def test_rows_are_read_without_a_loop_too():
    observer = StatusObserver(MemoryStatusStore())
    asyncio.run(told(observer, instance(7), ended()))
    assert [row.index for row in observer.read_status(run="r", state="RUNNING", latest=True)] == [7]


def test_nodes_have_rows_only_where_that_is_asked():
    assert StatusObserver(MemoryStatusStore()).phases == {Phase.INSTANCE, Phase.INVOCATION}
    assert StatusObserver(MemoryStatusStore(), nodes=True).phases >= {Phase.STARTED, Phase.COMPLETED}


@pytest.mark.parametrize(
    ("phase", "attempt", "error", "state"),
    [
        (Phase.STARTED, 0, None, "RUNNING"),
        (Phase.STARTED, 1, None, "RETRYING"),
        (Phase.COMPLETED, 1, None, "SUCCESS"),
        (Phase.COMPLETED, 0, ValueError("no"), "FAILED"),
    ],
)
def test_an_attempt_at_a_node_is_a_row_of_its_place(phase: Phase, attempt: int, error: Any, state: str):
    event = NodeEvent(
        **PLACE,
        namespace=("each", "par", "one"),
        fan_out_index_chain=(3, None),
        branch_name_chain=(None, "left"),
        attempt_index=attempt,
        phase=phase,
        step=1,
        pre_state=State(),
        error=error,
    )
    row = row_of(event)
    assert row is not None
    assert (row.state, row.attempt, row.index, row.node_path) == (state, attempt, 3, "each/par/one")
    assert row.lineage == (Level("each", 3), Level("par", None, "left"))
    assert row.error_message == (None if error is None else "no")


def test_a_failure_is_kept_without_secrets_and_without_its_length():
    error = error_record(ValueError("password=hunter2 " + "x" * 9000))
    row = row_of(instance(0, InstanceState.FAILED, error=error, at=datetime.now(UTC)))
    assert row is not None
    assert row.error_message is not None
    assert "hunter2" not in row.error_message
    assert len(row.error_message) == LONGEST_MESSAGE
    assert (row.error_category, (row.error_type or "").rpartition(".")[2]) == (error.shown_category, "ValueError")


def test_what_a_worker_did_not_star_out_is_starred_here():
    error = ErrorRecord(None, "password=hunter2", "ValueError")
    row = row_of(instance(0, InstanceState.FAILED, error=error))
    assert row is not None
    assert row.error_message == "password=***"


async def test_a_table_has_a_column_for_each_field_also_without_rows():
    observer = StatusObserver(MemoryStatusStore())
    empty = (await observer.get_status()).to_arrow()
    await told(observer, instance(1, key="k", tags={"state": "x"}), ended())
    rows = await observer.get_status()
    table = rows.to_arrow()
    assert table.schema == empty.schema
    (only,) = table.to_pylist()
    assert (only["node"], only["node_path"], only["index"], only["tags"]) == (["each"], "each", 1, [("state", "x")])
    assert only["lineage"] == [{"node": "each", "index": 1, "branch": None}]
    frame = rows.to_pandas()
    assert (frame.state[0], frame.tags[0]) == ("RUNNING", {"state": "x"})
    assert frame["at"].dt.tz is not None


async def test_a_table_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    rows = await StatusObserver(MemoryStatusStore()).get_status()
    with pytest.raises(Exception, match=r"pyarrow.*pip install 'rollforward\[tables\]'"):
        rows.to_arrow()


async def until(is_so: Any) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.001)
