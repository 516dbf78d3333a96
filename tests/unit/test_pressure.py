"""Dispatch pauses where the ledger has no room for more, and goes on with what it holds already."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Annotated, Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.execution.executor import Capacity, Hint
from orchestrator.execution.handle import RunHandle
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.fan_out import pressure
from orchestrator.graph.builder import GraphBuilder
from orchestrator.graph.edge import END
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Usage
from orchestrator.reducer import append
from orchestrator.state import State

KIBIBYTE = 1024
BUDGET = 16 * KIBIBYTE
COUNT = 50
OPTIONS = Options(owner="me", claim_deadline=timedelta(seconds=0.05))


class Page(State):
    text: str = ""
    length: int = 0


class Pages(State):
    texts: list[str] = []
    lengths: Annotated[list[int], append] = []


async def measure(page: Page) -> dict[str, Any]:
    return {"length": len(page.text)}


PAGE = GraphBuilder(Page).add_node("measure", measure).set_entry("measure").compile("page")
GRAPH = (
    GraphBuilder(Pages)
    .add_fan_out_node(
        "pages",
        subgraph=PAGE,
        items_field="texts",
        item_field="text",
        collect_field="length",
        target_field="lengths",
        concurrency=COUNT,
    )
    .set_entry("pages")
    .add_edge("pages", END)
    .compile("pages")
)


class Filling(MemoryLedger):
    """A ledger that is as full as `usage_now` says, and knows how many bytes were queued in it."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: dict[int, int] = {}
        self.usage_now: Usage | None = None

    async def queue(self, run_id: str, epoch: int, items: Any, *, claim_deadline_seconds: float) -> Any:
        self.queued.update({item.slot.index: item.size for item in items})
        return await super().queue(run_id, epoch, items, claim_deadline_seconds=claim_deadline_seconds)

    async def usage(self, run_id: str, fan_outs: Collection[str]) -> Usage:
        return self.usage_now or await super().usage(run_id, fan_outs)


class Holding(LocalExecutor):
    """Runs nothing of which it is told until it may; `loses` says of which it hears nothing."""

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__(ledger, Runtime(worker="here", find=lambda _name, _fingerprint: GRAPH))
        self.told: list[Hint] = []
        self.is_held = False
        self.loses: Callable[[Hint], bool] = lambda _hint: False

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        self.told += [hint for hint in hints if not self.loses(hint)]
        if not self.is_held:
            await self.go()

    async def capacity(self, graph: str, fingerprint: str) -> Capacity:
        return Capacity(slots=COUNT, free=COUNT)

    async def go(self) -> None:
        self.is_held = False
        told, self.told = self.told, []
        await super().dispatch(told)


class Scene:
    def __init__(self) -> None:
        self.ledger = Filling()
        self.executor = Holding(self.ledger)
        self._orchestrator = Orchestrator(
            MemoryStore(), lane=Lane(ledger=self.ledger, executor=self.executor), options=OPTIONS
        )

    async def started(self, count: int = COUNT) -> RunHandle[Pages]:
        await self._orchestrator.submit(GRAPH, Pages(texts=["x" * KIBIBYTE] * count), run_id="r")
        return await self.taken_over()

    async def taken_over(self) -> RunHandle[Pages]:
        return await self._orchestrator.start("r", GRAPH)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(pressure, "MOST_UNRECORDED_BYTES", BUDGET)
    return Scene()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the orchestrator tells nobody
        await asyncio.sleep(0.01)


async def test_items_are_outstanding_up_to_the_budget_and_one_more(scene: Scene):
    scene.executor.is_held = True
    async with asyncio.timeout(20):
        handle = await scene.started()
        # Some are told again by then: what was held back has had its chance.
        await until(lambda: len(scene.executor.told) >= 2 * BUDGET // KIBIBYTE)
        size = max(scene.ledger.queued.values())
        assert BUDGET < sum(scene.ledger.queued.values()) <= BUDGET + size
        # Enough that waits for a worker is nothing that people have to mend.
        assert handle.status().health is None
        await scene.executor.go()
        assert (await handle.result()).lengths == [KIBIBYTE] * COUNT
    assert sum(scene.ledger.queued.values()) > 2 * BUDGET


async def test_nothing_new_is_queued_while_reports_wait(scene: Scene):
    scene.ledger.usage_now = Usage(80 * 1024 * 1024)
    async with asyncio.timeout(20):
        handle = await scene.started()
        said = "dispatch paused: 80 MiB of reports wait to be recorded"
        await until(lambda: handle.status().health == said)
        assert not scene.ledger.queued
        scene.ledger.usage_now = None
        assert (await handle.result()).lengths == [KIBIBYTE] * COUNT


@pytest.mark.parametrize(("used", "is_full"), [(700, False), (701, True)])
async def test_nothing_new_is_queued_where_the_memory_is_nearly_used(scene: Scene, used: int, is_full: bool):
    scene.ledger.usage_now = Usage(0, used * 1024 * KIBIBYTE, 1000 * 1024 * KIBIBYTE)
    async with asyncio.timeout(20):
        handle = await scene.started()
        if is_full:
            await until(lambda: (handle.status().health or "").startswith("dispatch paused: Redis has used 70% of"))
            assert not scene.ledger.queued
            scene.ledger.usage_now = None
        else:
            await until(lambda: bool(scene.ledger.queued))
            scene.ledger.usage_now = None
        assert (await handle.result()).lengths == [KIBIBYTE] * COUNT


async def test_what_is_queued_between_two_looks_counts_as_used_until_the_next_one(scene: Scene):
    limit = 1024 * KIBIBYTE
    scene.ledger.usage_now = Usage(0, int(0.7 * limit) - 4 * KIBIBYTE, limit)
    scene.executor.is_held = True
    async with asyncio.timeout(20):
        handle = await scene.started(10)
        await until(lambda: handle.status().health is not None)
        assert 4 <= len(scene.ledger.queued) <= 5
        await scene.executor.go()
        assert (await handle.result()).lengths == [KIBIBYTE] * 10


async def test_a_lost_message_is_told_again_although_dispatch_is_paused(scene: Scene):
    lost: set[int] = set()

    def loses_once(hint: Hint) -> bool:
        is_first = hint.index not in lost
        lost.add(hint.index)
        return is_first

    scene.executor.loses = loses_once
    async with asyncio.timeout(20):
        handle = await scene.started(4)
        await until(lambda: len(lost) == 4)
        scene.ledger.usage_now = Usage(80 * 1024 * 1024)
        assert (await handle.result()).lengths == [KIBIBYTE] * 4


async def test_a_new_owner_tells_what_is_queued_already_although_dispatch_is_paused(scene: Scene):
    scene.executor.is_held = True
    async with asyncio.timeout(20):
        handle = await scene.started(4)
        await until(lambda: len(scene.executor.told) == 4)
        await handle.detach()
        scene.executor.told.clear()
        scene.executor.is_held = False
        scene.ledger.usage_now = Usage(80 * 1024 * 1024)
        assert (await (await scene.taken_over()).result()).lengths == [KIBIBYTE] * 4


async def test_what_a_new_owner_queues_again_counts_as_what_it_queues(scene: Scene):
    scene.executor.is_held = True
    async with asyncio.timeout(20):
        handle = await scene.started()
        await until(lambda: len(scene.executor.told) >= BUDGET // KIBIBYTE)
        await handle.detach()
        size = max(scene.ledger.queued.values())
        handle = await scene.taken_over()
        await until(lambda: len(scene.executor.told) >= 4 * BUDGET // KIBIBYTE)
        assert sum(scene.ledger.queued.values()) <= BUDGET + size
        scene.executor.is_held = False
        await scene.executor.go()
        assert (await handle.result()).lengths == [KIBIBYTE] * COUNT
