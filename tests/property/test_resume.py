"""Whatever the graph and wherever it crashes: what a resumed run comes to is what an undisturbed one does."""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.checkpoint.memory import MemoryStore
from tests.property.graph_plan import Inside, Level, Loop, Parallel, Wide, Work, levels, mended, settled
from tests.property.playing import assert_same, comparable, played, recorded

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150"))


async def outcome(level: Level, crashes: list[int]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """What a run comes to that crashes after so many writes of each invocation: its state and its record."""
    store = MemoryStore()
    run_id, end = await played(level, crashes, store)
    return comparable(end), await recorded(store, run_id)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
@given(level=levels(2).map(settled), crashes=st.lists(st.integers(1, 12), max_size=4))
def test_a_resumed_run_comes_to_what_an_undisturbed_one_does(level: Level, crashes: list[int]):
    expected_state, expected_record = asyncio.run(outcome(mended(level), []))
    state, record = asyncio.run(outcome(level, crashes))
    assert state == expected_state
    assert_same(record, expected_record, level)


WORK = Work()
EACH = Wide(2, Level((WORK,)), "collect")
TELLING = {
    "a loop around a fan-out": Level((Loop(2, Level((EACH,))), EACH)),
    "fail_fast": Level((Wide(3, Level((WORK,)), "fail_fast", failing=1), WORK)),
    "collected errors": Level((Wide(3, Level((WORK,)), "collect", failing=1), WORK)),
    "durable nodes": Level((Wide(2, Level((Work(durable=True), EACH, Work(durable=True), WORK)), "collect"),)),
    "nested": Level((Wide(2, Level((EACH,)), "collect"),)),
    "stepped by the orchestrator": Level((Wide(2, Level((EACH,)), "collect", on_orchestrator=True),)),
    "branches": Level((Parallel((Level((WORK, EACH)), Level((EACH, Loop(3))))), WORK)),
    "a subgraph": Level((Inside(Level((WORK, EACH, WORK))), WORK)),
}


@pytest.mark.parametrize("level", TELLING.values(), ids=TELLING.keys())
def test_no_write_is_a_wrong_moment_to_crash(level: Level):
    expected = asyncio.run(outcome(mended(level), []))
    for writes in range(1, 40):
        assert asyncio.run(outcome(level, [writes])) == expected, f"after {writes} writes"
        assert asyncio.run(outcome(level, [writes, 1, 2])) == expected, f"after {writes} writes, and again"
