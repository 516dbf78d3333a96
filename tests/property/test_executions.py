"""Whatever the graph and wherever it crashes: what is recorded is not executed again."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.checkpoint.memory import MemoryStore
from tests.property.graph_plan import Level, levels, mended, settled, tries_again
from tests.property.noting import Executions, Noting, witnessed
from tests.property.playing import played
from tests.property.test_resume import TELLING

EXAMPLES = int(os.environ.get("ROLLFORWARD_PROPERTY_EXAMPLES", "150"))


async def observed(level: Level, crashes: Sequence[int]) -> tuple[Noting, list[Executions]]:
    """What a run has recorded at its end, and what each of its invocations executed."""
    store, invocations = Noting(MemoryStore()), []

    @contextmanager
    def around() -> Iterator[None]:
        with witnessed(store) as executions:
            yield
        invocations.append(executions)

    await played(level, crashes, store, around=around)
    return store, invocations


def undisturbed(level: Level) -> tuple[Noting, Executions]:
    """What a run records and executes that neither crashes nor fails."""
    store, (executions,) = asyncio.run(observed(mended(level), []))
    assert executions.again == []
    assert executions.unsaved == Counter()
    assert executions.recorded_here == store.recorded
    assert store.recorded <= {execution.instances[-1] for execution in executions.inside}
    return store, executions


def disturbed(level: Level, crashes: Sequence[int], expected: tuple[Noting, Executions]) -> None:
    """See that a run executes what is recorded once, and the rest once more in each further invocation at most."""
    end, once = expected
    store, invocations = asyncio.run(observed(level, crashes))
    for executions in invocations:
        assert executions.again == []
        assert max(executions.unsaved.values(), default=1) == 1
    assert invocations[-1].unsaved == Counter()
    assert store.saved == end.saved
    if not tries_again(level):
        for executions in invocations:
            assert_no_more(executions, once)
        assert store.recorded == end.recorded


def assert_no_more(executions: Executions, once: Executions) -> None:
    """See that an invocation executes nothing but what an undisturbed one does, and of that the rest."""
    whole = executions.recorded_here - executions.begun_before
    assert executions.of(whole) == once.of(whole)
    assert executions.inside + (executions.kept_before & once.inside) <= once.inside


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="ROLLFORWARD_PROPERTY_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
@given(level=levels(2).map(settled), crashes=st.lists(st.integers(1, 12), max_size=4))
def test_what_is_recorded_is_not_executed_again(level: Level, crashes: list[int]):
    disturbed(level, crashes, undisturbed(level))


@pytest.mark.parametrize("level", TELLING.values(), ids=TELLING.keys())
def test_what_is_recorded_is_not_executed_again_wherever_it_crashes(level: Level):
    expected = undisturbed(level)
    end, _ = expected
    for writes in range(1, end.saved.total() + len(end.recorded) + 5):
        disturbed(level, [writes], expected)
