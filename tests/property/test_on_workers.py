"""Whatever the graph and wherever its orchestrator crashes: with workers a run comes to what it comes to without."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.compiled import CompiledGraph
from orchestrator.execution.lane import Lane
from rollforward.assembly import open_orchestrator_ledger
from tests.property.graph_plan import Level, fan_outs, levels, mended, settled
from tests.property.plan_graph import Bag
from tests.property.plan_source import PLANS, written
from tests.property.playing import assert_same, comparable, played, recorded
from tests.property.test_resume import TELLING
from tests.service.redis import RedisServer
from tests.service.worker import WorkerProcess
from workers.dispatch import CeleryExecutor
from workers.opening import open_worker_ledger
from workers.settings import Settings

EXAMPLES = max(1, int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150")) // 5)
"""A run takes several times as long as one without workers."""

TELLING_WRITES = (2, 5, 8)


@dataclass(frozen=True)
class Deployed:
    """On a real worker, which builds a plan's graph from the plan's file."""

    settings: Settings
    plans: Path
    worker: str

    def graph(self, level: Level) -> CompiledGraph[Bag]:
        return written(level, self.plans)

    @asynccontextmanager
    async def lane(self, _graph: CompiledGraph[Bag]) -> AsyncIterator[Lane]:
        ledger, registry = open_orchestrator_ledger(self.settings), open_worker_ledger(self.settings)
        executor = CeleryExecutor(self.settings, registry)
        try:
            yield Lane(ledger=ledger, executor=executor)
        finally:
            await executor.close()
            await ledger.close_connections()
            registry.close()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("plans")
    redis = RedisServer(folder / "redis").start()
    worker = WorkerProcess(
        folder, redis_url=redis.url, graphs=["tests.property.plan_source"], environment={PLANS: str(folder)}
    )
    try:
        with worker:
            yield Deployed(Settings(redis_url=redis.url, broker_url=redis.url), folder, worker.name)
    finally:
        redis.stop()


async def workers_of(store: MemoryStore, run_id: str) -> set[str]:
    """Who executed what is recorded."""
    rows = await store.fan_outs(run_id)
    return {slot.report.worker for row in rows async for slot in store.slots(run_id, row.id)}


def needs_workers(level: Level) -> bool:
    """Whether there are instances in it that go to workers."""
    return not all(step.on_orchestrator for step in fan_outs(level))


def telling(test: Callable[..., None]) -> Callable[..., None]:
    """Try the graphs that are known to tell mistakes, too."""
    for level in TELLING.values():
        for writes in TELLING_WRITES:
            test = example(level=level, crashes=[writes])(test)
    return test


@telling
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    database=None,
)
@given(level=levels(2).filter(needs_workers).map(settled), crashes=st.lists(st.integers(1, 12), max_size=3))
def test_a_resumed_run_comes_to_what_an_undisturbed_one_does_without_workers(
    deployed: Deployed, level: Level, crashes: list[int]
):
    async def compare() -> None:
        here, there = MemoryStore(), MemoryStore()
        expected_id, expected = await played(mended(level), [], here)
        run_id, end = await played(level, crashes, there, site=deployed)
        assert comparable(end) == comparable(expected)
        assert_same(await recorded(there, run_id), await recorded(here, expected_id), level)
        assert deployed.worker in await workers_of(there, run_id)

    asyncio.run(compare())
