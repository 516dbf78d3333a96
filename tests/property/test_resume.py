"""Whatever the graph and wherever it crashes: what a resumed run comes to is what an undisturbed one does."""

import asyncio
import os
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import GraphError
from orchestrator.execution.lane import Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from tests.property.crash import CrashAfter, Crashed
from tests.property.graph_plan import Inside, Level, Loop, Parallel, Wide, Work, levels, mended, settled
from tests.property.plan_graph import Bag, graph_of

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150"))
MOST_INVOCATIONS = 60
OF_THE_EXECUTION = frozenset({"traceback", "worker", "delivery", "attempt"})
OPTIONS = Options(owner="property")


async def drive(level: Level, store: MemoryStore, run_id: str, writes: int | None) -> tuple[Bag | None, int]:
    """One invocation, which may crash after so many writes; the last state where it ended, and what it wrote."""
    graph = graph_of(level, "plan")
    crashing: Any = CrashAfter(store, writes)
    lane = local_lane(graph, OPTIONS)
    orchestrator = Orchestrator(crashing, lane=lane, options=OPTIONS, is_dead=lambda _owner: True)
    try:
        handle = await orchestrator.start(run_id, graph)
        return await handle.result(), crashing.count
    except (Crashed, GraphError):
        return None, crashing.count
    finally:
        await lane.executor.close()


async def played(level: Level, crashes: list[int]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """Run a graph, crash each invocation after so many writes, resume until it ends; the state and the record."""
    store, run_id = MemoryStore(), str(uuid.uuid4())
    graph = graph_of(level, "plan")
    orchestrator = Orchestrator(store, lane=local_lane(graph, OPTIONS), options=OPTIONS)
    await orchestrator.submit(graph, Bag(number=1), run_id=run_id)
    for turn in range(MOST_INVOCATIONS):
        end, _ = await drive(level, store, run_id, crashes[turn] if turn < len(crashes) else None)
        if end is not None:
            return comparable(end.model_dump()), await recorded(store, run_id)
    raise AssertionError(f"{MOST_INVOCATIONS} invocations, and no end")


async def recorded(store: MemoryStore, run_id: str) -> dict[Any, Any]:
    """Every contribution by its place."""
    found: dict[Any, Any] = {}
    for row in await store.fan_outs(run_id):
        slots = [slot async for slot in store.slots(run_id, row.id)]
        assert len({slot.report.slot for slot in slots}) == len(slots)
        for slot in slots:
            report = slot.report
            error = None if report.error is None else (report.error.category, report.error.message)
            found[row.key.path, row.key.lineage, row.key.visit, report.slot.index] = (report.partial, error)
    return found


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """A state without what says how it came about."""
    errors = [{k: v for k, v in error.items() if k not in OF_THE_EXECUTION} for error in state["errors"]]
    return {**state, "errors": errors}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
@given(level=levels(2).map(settled), crashes=st.lists(st.integers(1, 12), max_size=4))
def test_a_resumed_run_comes_to_what_an_undisturbed_one_does(level: Level, crashes: list[int]):
    expected_state, expected_record = asyncio.run(played(mended(level), []))
    state, record = asyncio.run(played(level, crashes))
    assert state == expected_state
    assert record == expected_record


WORK = Work()
EACH = Wide(2, Level((WORK,)), "collect")
TELLING = {
    "a loop around a fan-out": Level((Loop(2, Level((EACH,))), EACH)),
    "fail_fast": Level((Wide(3, Level((WORK,)), "fail_fast", failing=1), WORK)),
    "collected errors": Level((Wide(3, Level((WORK,)), "collect", failing=1), WORK)),
    "nested": Level((Wide(2, Level((EACH,)), "collect"),)),
    "stepped by the orchestrator": Level((Wide(2, Level((EACH,)), "collect", on_orchestrator=True),)),
    "branches": Level((Parallel((Level((WORK, EACH)), Level((EACH, Loop(3))))), WORK)),
    "a subgraph": Level((Inside(Level((WORK, EACH, WORK))), WORK)),
}


@pytest.mark.parametrize("level", TELLING.values(), ids=TELLING.keys())
def test_no_write_is_a_wrong_moment_to_crash(level: Level):
    expected = asyncio.run(played(mended(level), []))
    for writes in range(1, 40):
        assert asyncio.run(played(level, [writes])) == expected, f"after {writes} writes"
        assert asyncio.run(played(level, [writes, 1, 2])) == expected, f"after {writes} writes, and again"
