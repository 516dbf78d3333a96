"""Runs of plans that crash and are resumed until they end."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from itertools import chain, islice, repeat
from typing import Any, Protocol

from orchestrator.compiled import CompiledGraph
from orchestrator.errors import GraphError
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from tests.property.crash import CrashAfter, Crashed
from tests.property.graph_plan import Level, tries_again
from tests.property.plan_graph import Bag, graph_of
from tests.service.worker import HEARTBEAT_SECONDS, LEASE_SECONDS

MOST_INVOCATIONS = 60
OF_THE_EXECUTION = frozenset({"traceback", "worker", "delivery", "attempt"})
OPTIONS = Options(
    owner="property",
    instance_lease=timedelta(seconds=LEASE_SECONDS),
    heartbeat=timedelta(seconds=HEARTBEAT_SECONDS),
)


class Site(Protocol):
    """Where runs of plans are executed."""

    def graph(self, level: Level) -> CompiledGraph[Bag]:
        """The graph of a plan."""

    def lane(self, graph: CompiledGraph[Bag]) -> AbstractAsyncContextManager[Lane]:
        """Where the instances of one invocation go."""


class Here:
    """In this process."""

    def graph(self, level: Level) -> CompiledGraph[Bag]:
        return graph_of(level, "plan")

    @asynccontextmanager
    async def lane(self, graph: CompiledGraph[Bag]) -> AsyncIterator[Lane]:
        lane = local_lane(graph, OPTIONS)
        try:
            yield lane
        finally:
            await lane.executor.close()


HERE = Here()


async def played(
    level: Level,
    crashes: Sequence[int],
    store: Any,
    *,
    site: Site = HERE,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[str, Bag]:
    """Run a graph, crash each invocation after so many writes, resume until it ends; the run's id and last state.

    Each invocation is in an `around`.
    """
    run_id, graph = str(uuid.uuid4()), site.graph(level)
    async with site.lane(graph) as lane:
        await Orchestrator(store, lane=lane, options=OPTIONS).submit(graph, Bag(number=1), run_id=run_id)
    for writes in islice(chain(crashes, repeat(None)), MOST_INVOCATIONS):
        with around():
            end = await _invoked(graph, run_id, CrashAfter(store, writes), site)
        if end is not None:
            return run_id, end
    raise AssertionError(f"{MOST_INVOCATIONS} invocations, and no end")


async def _invoked(graph: CompiledGraph[Bag], run_id: str, store: Any, site: Site) -> Bag | None:
    """One invocation; the last state where it came to its end."""
    async with site.lane(graph) as lane:
        mortal = Lane(ledger=store.dying_with(lane.ledger), executor=store.dying_with(lane.executor))
        orchestrator = Orchestrator(store, lane=mortal, options=OPTIONS, is_dead=lambda _owner: True)
        try:
            handle = await orchestrator.start(run_id, graph)
            return await handle.result()
        except (Crashed, GraphError):
            return None


async def recorded(store: Any, run_id: str) -> dict[Any, Any]:
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


def assert_same(record: dict[Any, Any], expected: dict[Any, Any], level: Level) -> None:
    """See that the contributions are those that are expected of this plan, which may have more where it tries again."""
    if tries_again(level):
        assert _without_visits(expected) <= _without_visits(record)
    else:
        assert record == expected


def _without_visits(record: dict[Any, Any]) -> set[Any]:
    return {
        (path, *(step.index for step in lineage), index, told) for (path, lineage, _, index), told in record.items()
    }


def comparable(state: Bag) -> dict[str, Any]:
    """A state without what says how it came about."""
    told = state.model_dump()
    errors = [{k: v for k, v in error.items() if k not in OF_THE_EXECUTION} for error in told["errors"]]
    return {**told, "errors": errors}
