"""What a run that is given up leaves behind: nothing under way, and no word of it after the last."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import RunCancelled
from orchestrator.execution.cancelling import ended
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.identity import FanOutKey
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.report import Report
from rollforward import END, CompiledGraph, GraphBuilder, State, append


class Piece(State):
    nap: float = 0.0
    out: float = 0.0


class Row(State):
    naps: list[float] = []
    outs: Annotated[list[float], append] = []


class Rows(State):
    rows: list[list[float]] = []
    outs: Annotated[list[list[float]], append] = []
    errors: list[dict[str, str]] = []


async def nap(piece: Piece) -> dict[str, Any]:
    await asyncio.sleep(piece.nap)
    return {"out": piece.nap}


def rows_graph(**options: Any) -> CompiledGraph[Rows]:
    """Rows of naps, stepped by the orchestrator; those that fail are collected."""
    piece = GraphBuilder(Piece).add_node("nap", nap).set_entry("nap").add_edge("nap", END).compile()
    row = (
        GraphBuilder(Row)
        .add_fan_out_node(
            "pieces",
            subgraph=piece,
            items_field="naps",
            item_field="nap",
            collect_field="out",
            target_field="outs",
        )
        .set_entry("pieces")
        .add_edge("pieces", END)
        .compile()
    )
    return (
        GraphBuilder(Rows)
        .add_fan_out_node(
            "rows",
            subgraph=row,
            items_field="rows",
            item_field="naps",
            collect_field="outs",
            target_field="outs",
            errors_field="errors",
            error_policy="collect",
            run_on="orchestrator",
            **options,
        )
        .set_entry("rows")
        .add_edge("rows", END)
        .compile("rows")
    )


def orchestrator_of(graph: CompiledGraph[Any], store: MemoryStore, ledger: MemoryLedger) -> Orchestrator:
    runtime = Runtime(worker="here", find=lambda _name, _fingerprint: graph)
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    return Orchestrator(store, lane=lane, options=Options(owner="me"))


class SlowFor(MemoryStore):
    """Takes its time to commit one contribution."""

    def __init__(self, partial: str) -> None:
        super().__init__()
        self._partial = partial

    async def record(self, own: Any, rows: Any) -> int:
        if any(row.report.partial == self._partial for row in rows):
            await asyncio.sleep(0.3)
        return await super().record(own, rows)


async def test_a_fan_out_that_is_stopped_while_its_reports_are_committed_costs_no_other():
    graph = rows_graph(time_limit=timedelta(seconds=3), concurrency=2)
    one = orchestrator_of(graph, SlowFor('{"out":2.9}'), MemoryLedger())
    await one.submit(graph, Rows(rows=[[2.9], [1.6], [1.5]]), run_id="r")
    async with asyncio.timeout(20):
        after = await (await one.start("r", graph)).result()
    assert after.outs == [[1.6], [1.5]]
    assert [error["fan_out_index"] for error in after.errors] == ["0"]


class Deaf(MemoryLedger):
    """Does not see the first cancellation of who listens, as one whose client library loses it."""

    def __init__(self) -> None:
        super().__init__()
        self.listening: list[asyncio.Task[Any]] = []

    async def reports(self, run_id: str, fan_outs: Collection[str], *, wait_seconds: float) -> list[Report]:
        task = asyncio.current_task()
        assert task is not None
        self.listening.append(task)
        try:
            return await super().reports(run_id, fan_outs, wait_seconds=wait_seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
            return []


async def test_whoever_listens_has_ended_when_a_cancelled_run_has():
    ledger, graph = Deaf(), rows_graph()
    one = orchestrator_of(graph, MemoryStore(), ledger)
    await one.submit(graph, Rows(rows=[[60.0], [60.0]]), run_id="r")
    handle = await one.start("r", graph)
    async with asyncio.timeout(20):
        while len(ledger.listening) < 2:  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.01)
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
    assert [task for task in ledger.listening if not task.done()] == []


async def test_who_does_not_heed_the_first_cancellation_is_cancelled_again():
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
        return "done"

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ended(task, None)
    assert task.cancelled()


class Noting(MemoryLedger):
    """Notes what the owner of the run has done, in order; every call takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def open(self, *given: Any) -> None:
        try:
            await asyncio.sleep(0.005)
            await super().open(*given)
        finally:
            self.calls.append("open")

    async def queue(self, *given: Any, **named: Any) -> Any:
        try:
            await asyncio.sleep(0.005)
            return await super().queue(*given, **named)
        finally:
            self.calls.append("queue")

    async def forget(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        if fan_out is None:
            self.calls.append("forget")
        await super().forget(run_id, epoch, fan_out=fan_out)


@pytest.mark.parametrize("after_calls", range(1, 12))
async def test_nothing_of_a_cancelled_run_comes_after_it_is_forgotten(after_calls: int):
    ledger, graph = Noting(), rows_graph()
    one = orchestrator_of(graph, MemoryStore(), ledger)
    await one.submit(graph, Rows(rows=[[60.0]] * 10), run_id="r")
    handle = await one.start("r", graph)
    async with asyncio.timeout(20):
        while len(ledger.calls) < after_calls:  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0)
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        await asyncio.sleep(0.05)
    assert ledger.calls.index("forget") == len(ledger.calls) - 1
    assert await ledger.live("r", FanOutKey((), "rows").id) == []
