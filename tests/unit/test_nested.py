"""Fan-outs inside instances: what is told apart, what is kept, and what a resume runs again."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.record import InstanceState
from orchestrator.checkpoint.verify import verify
from orchestrator.errors import Fenced
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from orchestrator.identity import FanOutKey
from orchestrator.instance.kept import in_ledger
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Held
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.report import Report
from rollforward import END, CompiledGraph, FailureIsolationMiddleware, GraphBuilder, State, append

RunOn = Literal["workers", "orchestrator"]


class Page(State):
    number: int = 0
    times: int = 0


class Book(State):
    pages: list[int] = []
    times: list[int] = []


class Shelf(State):
    books: list[list[int]] = [[1, 2], [3]]
    turns: int = 0
    times: Annotated[list[list[int]], append] = []


def shelf_graph(read: Any, *, turns: int = 1, run_on: RunOn = "workers", **inner: Any) -> CompiledGraph[Shelf]:
    """Shelves of books of pages, gone through so often; `read` is done with every page."""

    async def count(state: Shelf) -> dict[str, Any]:
        return {"turns": state.turns + 1}

    page = GraphBuilder(Page).add_node("read", read).set_entry("read").add_edge("read", END).compile("page")
    book = (
        GraphBuilder(Book)
        .add_fan_out_node(
            "pages",
            subgraph=page,
            items_field="pages",
            item_field="number",
            collect_field="times",
            target_field="times",
            **inner,
        )
        .set_entry("pages")
        .add_edge("pages", END)
        .compile("book")
    )
    return (
        GraphBuilder(Shelf)
        .add_fan_out_node(
            "books",
            subgraph=book,
            items_field="books",
            item_field="pages",
            collect_field="times",
            target_field="times",
            run_on=run_on,
        )
        .add_node("count", count)
        .set_entry("books")
        .add_edge("books", "count")
        .add_conditional_edge("count", lambda state: "books" if state.turns < turns else END)
        .compile("shelf")
    )


class Reader:
    """Counts how often each page was read; those in `broken` cannot be."""

    def __init__(self, *broken: int) -> None:
        self.broken = set(broken)
        self.times: Counter[int] = Counter()

    async def __call__(self, state: Page) -> dict[str, Any]:
        if state.number in self.broken:
            raise ValueError(f"page {state.number} is torn")
        self.times[state.number] += 1
        return {"times": self.times[state.number]}


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_a_later_turn_of_the_outer_fan_out_runs_its_inner_instances_anew(run_on: RunOn):
    reader, store = Reader(), MemoryStore()
    graph = shelf_graph(reader, turns=3, run_on=run_on)
    after = await graph.invoke(Shelf(), checkpointer=store, invocation_id="r")
    assert after.times == [[1, 1], [1], [2, 2], [2], [3, 3], [3]]
    assert reader.times == {1: 3, 2: 3, 3: 3}
    nested = [row for row in await store.fan_outs("r") if row.key.lineage]
    assert [(await store.tally("r", row.id)).recorded for row in nested] == [2, 1] * 3
    assert (await verify(store, "r", has_succeeded=True)).ok


@pytest.mark.parametrize("run_on", ["workers", "orchestrator"])
async def test_a_run_that_isolates_the_failure_of_an_inner_fan_out_adds_up(run_on: RunOn):
    store = MemoryStore()
    isolated = FailureIsolationMiddleware({"times": [0]}, event_name="torn")
    graph = shelf_graph(Reader(2), run_on=run_on, middleware=[isolated])
    after = await graph.invoke(Shelf(), checkpointer=store, invocation_id="r")
    assert after.times == [[0], [1]]
    assert (await verify(store, "r", has_succeeded=True)).ok


class Stopping(Reader):
    """Stops for good at one page, the first time."""

    def __init__(self, page: int) -> None:
        super().__init__()
        self.page = page
        self.begun = asyncio.Event()

    async def __call__(self, state: Page) -> dict[str, Any]:
        if state.number == self.page and not self.begun.is_set():
            self.begun.set()
            await asyncio.Event().wait()
        return await super().__call__(state)


class Unnoticed(MemoryLedger):
    """Wakes nobody for what instances tell while they run: a ledger of another process does not either."""

    async def reports(self, run_id: str, fan_outs: Collection[str], *, wait_seconds: float) -> list[Report]:
        ends = time.monotonic() + wait_seconds
        while True:
            left = ends - time.monotonic()
            found = await super().reports(run_id, fan_outs, wait_seconds=left)
            if found or left <= 0:
                return found


async def ended(store: MemoryStore, ledger: MemoryLedger, graph: CompiledGraph[Shelf], shelf: Shelf) -> Shelf:
    """The state at the end of run `r`, whose instances tell this ledger what they have done."""
    runtime = Runtime(worker="w", find=lambda _name, _fingerprint: graph, keep=in_ledger(ledger.progress))
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    one = Orchestrator(store, lane=lane, options=Options(owner="me"))
    await one.submit(graph, shelf, run_id="r")
    async with asyncio.timeout(20):
        return await (await one.start("r", graph)).result()


async def test_what_was_told_last_is_recorded_before_the_instance_itself_is():
    store = MemoryStore()
    await ended(store, Unnoticed(), shelf_graph(Reader()), Shelf())
    nested = [row for row in await store.fan_outs("r") if row.key.lineage]
    assert [(await store.tally("r", row.id)).recorded for row in nested] == [2, 1]


class RolledBack(MemoryLedger):
    """Has lost, when it is asked, one of the entries that it took: the entry at that place."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.left = place

    def progress(self, run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        kept = list(entries)
        if 0 <= self.left < len(kept):
            del kept[self.left]
        self.left -= len(entries)
        return super().progress(run_id, held, kept)


@pytest.mark.parametrize(
    ("place", "times"), [(0, [2, 2, 2]), (1, [2, 1, 1]), (3, [1, 1, 2])], ids=["entry", "first page", "last page"]
)
async def test_an_instance_whose_report_rests_on_what_the_ledger_lost_runs_again_for_just_that(
    place: int, times: list[int]
):
    store, reader = MemoryStore(), Reader()
    after = await ended(store, RolledBack(place), shelf_graph(reader, concurrency=1), Shelf(books=[[1, 2, 3]]))
    assert after.times == [times]
    assert reader.times == dict(zip([1, 2, 3], times, strict=True))
    assert (await verify(store, "r", has_succeeded=True)).ok


def orchestrator(store: MemoryStore, graph: CompiledGraph[Any], owner: str) -> Orchestrator:
    """One with a ledger and workers of its own, to whom the others are dead."""
    options = Options(owner=owner)
    return Orchestrator(store, lane=local_lane(graph, options), options=options, is_dead=lambda _owner: True)


async def recorded_inside(store: MemoryStore, count: int) -> None:
    """Wait until so many nested instances are recorded."""
    async with asyncio.timeout(10):
        while True:
            nested = [row for row in await store.fan_outs("r") if row.key.lineage]
            if sum([(await store.tally("r", row.id)).recorded for row in nested]) == count:
                return
            await asyncio.sleep(0.01)


async def test_a_run_that_dies_inside_a_nested_fan_out_runs_only_what_was_missing():
    reader, store = Stopping(3), MemoryStore()
    graph = shelf_graph(reader, concurrency=1)
    first = orchestrator(store, graph, "first")
    await first.submit(graph, Shelf(books=[[1, 2, 3, 4]]), run_id="r")
    lost = await first.start("r", graph)
    await reader.begun.wait()
    await recorded_inside(store, 2)
    after = await (await orchestrator(store, graph, "second").start("r", graph)).result()
    assert after.times == [[1, 1, 1, 1]]
    assert (await verify(store, "r", has_succeeded=True)).ok
    with pytest.raises(Fenced):
        await lost.result()


async def test_nested_instances_are_in_the_record_while_the_outer_one_runs():
    reader, store = Stopping(2), MemoryStore()
    graph = shelf_graph(reader)
    handle = await graph.start(Shelf(books=[[1, 2]]), checkpointer=store, invocation_id="r")
    await reader.begun.wait()
    await recorded_inside(store, 1)
    record = await store.load("r")
    assert record is not None
    inner = record.fan_out_progress[1]
    assert (inner.namespace, inner.fan_out_node_name) == (("books",), "pages")
    assert inner.enclosing_fan_out_lineage == FanOutKey((), "books").enclosing(0)
    assert [one.state for one in inner.instances] == [InstanceState.COMPLETED, InstanceState.NOT_STARTED]
    await handle.cancel()
