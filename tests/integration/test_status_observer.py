"""The rows of real runs, in this process and on a real worker."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backends.opening import open_status
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import NodeException, ParallelBranchesBranchFailed
from orchestrator.identity import Level
from orchestrator.observers.event import Event, InstanceEvent, InstanceState
from orchestrator.status.observer import StatusObserver
from orchestrator.status.store import StatusFilter
from tests.graph import statuses
from tests.graph.statuses import Files, Folders, beside, collecting, given_up, nested, one_by_one, strict
from tests.service.observing import Place

QUEUED_RUN = ["QUEUED", "RUNNING"]
COLUMNS = (
    *("sequence", "run_id", "invocation_id", "correlation_id", "node_path", "node", "lineage", "index", "key", "state"),
    *("attempt", "delivery", "worker", "at", "duration_seconds", "error_category", "error_type", "error_message"),
    "tags",
)


@pytest.fixture
async def status(tmp_path: Path) -> AsyncIterator[StatusObserver]:
    """An observer with a database of its own."""
    observer = StatusObserver(open_status(f"sqlite:///{tmp_path}/state.db", namespace="observed"))
    yield observer
    await observer.close()


async def states(status: StatusObserver, **which: Any) -> list[str]:
    return [row.state.value for row in await status.get_status(**which)]


async def test_success_is_a_row_for_each_state_the_last_with_worker_and_duration(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["ok"]), status)
    rows = await status.get_status(node="files")
    assert [row.state.value for row in rows] == [*QUEUED_RUN, "SUCCESS"]
    queued, running, ended = rows
    assert (queued.worker, queued.delivery, running.delivery, ended.delivery) == (None, 1, 1, 1)
    assert running.worker == ended.worker == ("worker@test" if place.is_remote else "observed")
    assert ended.duration_seconds is not None
    assert ended.at >= running.at
    assert ended.error_message is None


async def test_failure_is_a_row_that_says_why_without_secrets(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["fail"]), status)
    assert await states(status, node="files") == [*QUEUED_RUN, "RETRYING", "FAILED"]
    (failed,) = await status.get_status(node="files", state="FAILED")
    assert failed.error_type is not None
    assert failed.error_type.endswith("ValueError")
    assert failed.error_message == "fail, password=***"


async def test_path_and_lineage_tell_nested_instances_apart(place: Place, status: StatusObserver):
    await place.invoked(nested, Folders(folders=[["ok", "ok"], ["ok"]]), status)
    latest = await status.get_status(latest=True)
    assert {(row.node_path, row.lineage, row.state.value) for row in latest} == {
        ("folders", (Level("folders", 0),), "SUCCESS"),
        ("folders", (Level("folders", 1),), "SUCCESS"),
        ("folders/files", (Level("folders", 0), Level("files", 0)), "SUCCESS"),
        ("folders/files", (Level("folders", 0), Level("files", 1)), "SUCCESS"),
        ("folders/files", (Level("folders", 1), Level("files", 0)), "SUCCESS"),
    }


async def test_tags_and_key_are_on_every_row_of_their_instance(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["ok", "flaky"]), status)
    rows = await status.get_status(node="files")
    assert len(rows) == 7
    for row in rows:
        act = ["ok", "flaky"][row.index or 0]
        assert (row.key, row.tags) == (f"the {act} one", {"act": act, "length": str(len(act))})


async def test_async_runs_at_once_share_one_observer_and_mix_nothing(place: Place, status: StatusObserver):
    runs = [f"run-{number}" for number in range(4)]
    await asyncio.gather(
        *(place.invoked(collecting, Files(acts=["ok"] * 3), status, invocation_id=run_id) for run_id in runs)
    )
    for run_id in runs:
        assert sorted(await states(status, run=run_id)) == sorted([*QUEUED_RUN, "SUCCESS"] * 6)


async def test_fail_fast_cancels_what_it_stops(place: Place, status: StatusObserver):
    with pytest.raises(NodeException):
        await place.invoked(strict, Files(acts=["fail", "wait", "wait"]), status)
    latest = await status.get_status(latest=True)
    ended = {row.index: row.state.value for row in latest}
    assert ended == {0: "FAILED", 1: "CANCELLED", 2: "CANCELLED"}
    assert await states(status, node="again") == []


class Opening:
    """Opens the gate once an instance of that node is told to have come to that state."""

    phases = ("instance",)

    def __init__(self, node: str, gate: asyncio.Event, state: InstanceState = InstanceState.RUNNING) -> None:
        self._node = node
        self._gate = gate
        self._state = state

    async def __call__(self, event: Event) -> None:
        match event:
            case InstanceEvent(state=self._state, namespace=(*_, self._node)):
                self._gate.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    opened = asyncio.Event()
    monkeypatch.setattr(statuses, "gate", opened)
    return opened


async def last_states(status: StatusObserver) -> set[tuple[str, int | None, str]]:
    return {(row.node_path, row.index, row.state.value) for row in await status.get_status(latest=True)}


@pytest.mark.parametrize("graph", [beside, given_up], ids=["a branch whose sibling fails", "its own middleware"])
async def test_a_fan_out_that_is_given_up_leaves_nobody_running(
    place: Place, status: StatusObserver, gate: asyncio.Event, graph: CompiledGraph[Files]
):
    with contextlib.suppress(ParallelBranchesBranchFailed):
        await place.invoked(graph, Files(acts=["wait"]), status, Opening("files", gate))
    assert {state for _, _, state in await last_states(status)} == {"CANCELLED"}
    (cancelled,) = await status.get_status(state="CANCELLED")
    assert cancelled.worker == ("worker@test" if place.is_remote else "observed")


async def test_what_is_nested_in_an_instance_that_failed_is_cancelled(place: Place, status: StatusObserver):
    with pytest.raises(NodeException):
        await place.invoked(nested, Folders(folders=[["fail", "wait"]]), status)
    assert await last_states(status) == {
        ("folders", 0, "FAILED"),
        ("folders/files", 0, "FAILED"),
        ("folders/files", 1, "CANCELLED"),
    }


async def test_what_is_nested_in_an_instance_of_a_cancelled_run_is_cancelled(
    place: Place, status: StatusObserver, gate: asyncio.Event
):
    async with place.lane(nested) as lane:
        opening = Opening("files", gate)
        run = await nested.start(Folders(folders=[["wait"]]), lane=lane, observers=[status, opening])
        await asyncio.wait_for(gate.wait(), 30)
        await run.cancel()
        await nested.drain()
    assert await last_states(status) == {("folders", 0, "CANCELLED"), ("folders/files", 0, "CANCELLED")}


async def test_mixed_ends_are_told_apart_and_each_is_told_once(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["ok", "fail", "flaky", "ok"]), status)
    latest = await status.get_status(node="files", latest=True)
    assert {row.index: row.state.value for row in latest} == {0: "SUCCESS", 1: "FAILED", 2: "SUCCESS", 3: "SUCCESS"}
    for index, told in enumerate((["SUCCESS"], ["RETRYING", "FAILED"], ["RETRYING", "SUCCESS"], ["SUCCESS"])):
        assert await states(status, node="files", index=index) == [*QUEUED_RUN, *told]


async def test_multi_node_runs_have_rows_of_nodes_where_asked(place: Place, status: StatusObserver):
    with_nodes = StatusObserver(status.store, nodes=True)
    await place.invoked(collecting, Files(acts=["flaky"]), with_nodes)
    assert await states(with_nodes, node="prepare") == ["RUNNING", "SUCCESS"]
    rows = await with_nodes.get_status(node="files/work")
    assert [row.state.value for row in rows] == ["RUNNING", "FAILED", "RETRYING", "SUCCESS"]
    assert {(row.delivery, row.worker) for row in rows} == {(1, "worker@test" if place.is_remote else "observed")}
    assert [row.duration_seconds is not None for row in rows] == [False, True, False, True]
    # They were told with the report: when each happened, the clock of where it ran says.
    (running,) = await with_nodes.get_status(node="files", state="RUNNING", index=0)
    assert running.at < rows[0].at < rows[3].at
    of_fan_out = await with_nodes.get_status(node="again")
    assert [row.state.value for row in of_fan_out if row.index is None] == ["RUNNING", "SUCCESS"]
    assert [row.state.value for row in of_fan_out if row.index == 0] == [*QUEUED_RUN, "RETRYING", "SUCCESS"]


async def test_a_node_whose_state_cannot_travel_has_its_rows_and_its_instance_succeeds(
    place: Place, status: StatusObserver
):
    with_nodes = StatusObserver(status.store, nodes=True)
    final = await place.invoked(collecting, Files(acts=["unfit", "ok"]), with_nodes)
    assert len(final.pids) == 2
    assert await states(with_nodes, node="files", index=0, latest=True) == ["SUCCESS"]
    assert await states(with_nodes, node="files/work", index=0) == ["RUNNING", "SUCCESS"]


async def test_node_specific_get_status_gives_one_fan_out(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["ok"]), status)
    assert {row.node for row in await status.get_status()} == {("files",), ("again",)}
    assert {row.node for row in await status.get_status(node="again")} == {("again",)}
    assert len(await status.get_status(node=("files",))) == 3
    assert list(await status.get_status(node="nowhere")) == []


async def test_schema_is_that_of_the_table_whatever_the_tags(place: Place, status: StatusObserver):
    await place.invoked(collecting, Files(acts=["ok"]), status)
    table = (await status.get_status()).to_arrow()
    assert tuple(table.column_names) == COLUMNS
    assert table.num_rows == 6
    assert str(table.schema.field("at").type) == "timestamp[us, tz=UTC]"


async def test_run_id_names_the_run_through_all_its_invocations(place: Place, status: StatusObserver):
    store = MemoryStore()
    with pytest.raises(NodeException):
        await place.invoked(one_by_one, Files(acts=["ok", "fail"]), status, checkpointer=store, invocation_id="first")
    with pytest.raises(NodeException):
        await place.invoked(one_by_one, Files(), status, checkpointer=store, resume_invocation="first")
    rows = await status.get_status(run="first")
    assert len({row.invocation_id for row in rows}) == 2
    again = [row for row in rows if row.invocation_id != "first"]
    assert {row.index: row.state.value for row in again} == {0: "CACHED", 1: "FAILED"}
    assert await states(status, run="first", state="CACHED") == ["CACHED"]


async def test_a_collected_failure_that_is_rolled_forward_says_why_it_failed(place: Place, status: StatusObserver):
    has_failed, is_back = asyncio.Event(), asyncio.Event()
    async with place.lane(collecting) as lane:
        seeing = [Opening("files", has_failed, InstanceState.FAILED), Opening("files", is_back, InstanceState.CACHED)]
        how: Any = {"checkpointer": MemoryStore(), "lane": lane, "observers": [status, *seeing]}
        run = await collecting.start(Files(acts=["fail", "wait"]), **how, invocation_id="one")
        await asyncio.wait_for(has_failed.wait(), 30)
        await run.detach()
        run = await collecting.start(Files(), **how, resume_invocation="one")
        await asyncio.wait_for(is_back.wait(), 30)
        await run.cancel()
        await collecting.drain()
    (cached,) = await status.get_status(state="CACHED")
    assert (cached.index, cached.error_message) == (0, "fail, password=***")


class Killing:
    """Kills the process of an instance the first time that it is told to run, and says when that was noticed."""

    phases = ("instance",)

    def __init__(self, place: Place) -> None:
        self._place = place
        self.was_missed = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        match event:
            case InstanceEvent(state=InstanceState.RUNNING, delivery=1):
                assert self._place.worker is not None
                for pid in self._place.worker().children:
                    os.kill(pid, signal.SIGKILL)
            case InstanceEvent(state=InstanceState.QUEUED, delivery=2):
                self.was_missed.set()


@pytest.mark.parametrize("place", ["celery"], indirect=True)
async def test_a_worker_that_is_killed_leaves_a_lost_row_and_a_new_delivery(place: Place, status: StatusObserver):
    killing = Killing(place)
    async with place.lane(collecting) as lane:
        run = await collecting.start(Files(acts=["wait"]), lane=lane, observers=[status, killing])
        await asyncio.wait_for(killing.was_missed.wait(), 30)
        await run.cancel()
        await collecting.drain()
    rows = await status.get_status(node="files")
    told = [(row.state.value, row.delivery) for row in rows]
    assert told[:4] == [("QUEUED", 1), ("RUNNING", 1), ("LOST", 1), ("QUEUED", 2)]
    assert told[-1][0] == "CANCELLED"


def test_rows_that_are_being_written_when_their_loop_ends_are_kept_once(tmp_path: Path):
    store = open_status(f"sqlite:///{tmp_path}/state.db", namespace="observed")
    observer = StatusObserver(store, flush_interval=3600)
    place: dict[str, Any] = {"run_id": "r", "invocation_id": "i", "correlation_id": "c", "namespace": ("files",)}

    async def tell_and_leave(index: int) -> None:
        chains: dict[str, Any] = {"fan_out_index_chain": (index,), "branch_name_chain": (None,)}
        await observer(InstanceEvent(**place, **chains, state=InstanceState.RUNNING))
        asyncio.get_running_loop().create_task(observer.flush())
        for _ in range(3):
            await asyncio.sleep(0)

    for index in range(5):
        asyncio.run(tell_and_leave(index))
    asyncio.run(observer.flush())
    assert [row.index for row in asyncio.run(store.read(StatusFilter()))] == list(range(5))
    asyncio.run(observer.close())
