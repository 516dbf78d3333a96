"""A database that was restored from a backup is told from one that is up to date, and gone on with on request."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.protocol import RecordOutdated
from orchestrator.checkpoint.verify import verify
from orchestrator.errors import LedgerUnavailable, NodeException
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from rollforward import CompiledGraph
from tests.unit.graph_of_numbers import Numbers, numbers_graph

GRAPH = numbers_graph(concurrency=1)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
NUMBERS = Numbers(numbers=[1, 2, -3, 4])


class Away(MemoryLedger):
    """Cannot be asked which epoch it knows."""

    async def epoch(self, run_id: str) -> int:
        raise LedgerUnavailable("gone")


def orchestrator(store: MemoryStore, ledger: MemoryLedger, graph: CompiledGraph[Any] = GRAPH) -> Orchestrator:
    runtime = Runtime(worker="here", find=lambda _name, _fingerprint: graph)
    lane = Lane(ledger=ledger, executor=LocalExecutor(ledger, runtime))
    return Orchestrator(store, lane=lane, options=Options(owner="me"))


async def fail(store: MemoryStore, ledger: MemoryLedger, *, times: int) -> None:
    """Run into the failure so many times, each under an epoch of its own."""
    one = orchestrator(store, ledger)
    if not times:
        return
    await one.submit(GRAPH, NUMBERS, run_id="r")
    for _ in range(times):
        with pytest.raises(NodeException):
            await (await one.start("r", GRAPH)).result()


@pytest.fixture
async def ledger() -> MemoryLedger:
    """One that knows the run under its third epoch."""
    known = MemoryLedger()
    await fail(MemoryStore(), known, times=3)
    return known


async def test_a_run_whose_record_is_older_than_its_ledger_is_refused_and_left_as_it_is(ledger: MemoryLedger):
    older = MemoryStore()
    await fail(older, MemoryLedger(), times=2)
    before = await older.find("r")
    with pytest.raises(RecordOutdated, match="resume r --accept-older-record"):
        await orchestrator(older, ledger).start("r", GRAPH)
    assert await older.find("r") == before


async def submitted() -> MemoryStore:
    """A store that has the run as it was submitted that very moment, and not begun."""
    store = MemoryStore(clock=lambda: MONDAY)
    await orchestrator(store, MemoryLedger()).submit(GRAPH, Numbers(numbers=[5, 6]), run_id="r")
    return store


@pytest.mark.parametrize("has_succeeded", [True, False])
async def test_a_record_from_before_the_run_was_begun_is_refused_also(has_succeeded: bool):
    later, backup, ledger = await submitted(), await submitted(), MemoryLedger()
    handle = await orchestrator(later, ledger).start("r", GRAPH)
    if has_succeeded:
        await handle.result()
    else:
        await until(lambda: ledger.epoch("r"))
        await handle.detach()
    with pytest.raises(RecordOutdated):
        await orchestrator(backup, ledger).start("r", GRAPH)
    handle = await orchestrator(backup, ledger).start("r", GRAPH, accept_older_record=True)
    assert (await handle.result()).squares == [25, 36]


async def until(told: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not await told():  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0)


async def test_it_goes_on_where_that_is_accepted(ledger: MemoryLedger):
    older = MemoryStore()
    await fail(older, MemoryLedger(), times=1)
    handle = await orchestrator(older, ledger).start("r", GRAPH, accept_older_record=True)
    with pytest.raises(NodeException):
        await handle.result()
    assert await ledger.epoch("r") == (await older.find("r")).epoch == 4


async def test_a_record_that_is_up_to_date_goes_on(ledger: MemoryLedger):
    store = MemoryStore()
    await fail(store, MemoryLedger(), times=3)
    with pytest.raises(NodeException):
        await (await orchestrator(store, ledger).start("r", GRAPH)).result()


async def test_a_new_run_of_that_id_takes_over_nothing_of_what_the_ledger_has_of_the_old_one(ledger: MemoryLedger):
    store = MemoryStore()
    one = orchestrator(store, ledger)
    await one.submit(GRAPH, Numbers(numbers=[5, 6, 7, 8]), run_id="r")
    after = await (await one.start("r", GRAPH)).result()
    assert after.squares == [25, 36, 49, 64]
    assert (await verify(store, "r", has_succeeded=True)).ok


async def test_where_the_ledger_cannot_be_asked_the_run_goes_on():
    store = MemoryStore()
    one = orchestrator(store, Away())
    await one.submit(GRAPH, Numbers(numbers=[5]), run_id="r")
    assert (await (await one.start("r", GRAPH)).result()).squares == [25]
