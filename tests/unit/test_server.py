"""A server takes up the runs that wait, and those whose owner only seems to hold them."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import Run, RunFilter, RunStatus
from orchestrator.execution.lane import Options
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.execution.stepping import local_lane
from orchestrator.graph.registry import registry
from orchestrator.ledger.memory import MemoryLedger
from rollforward.assembly import Assembly
from rollforward.server import Server
from tests.contract.checkpoint_case import new_run
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from workers.process import this_owner

GRAPH = numbers_graph()


@pytest.fixture(autouse=True)
def ours_is_found() -> None:
    """Other tests of this process compile graphs of the same name and fingerprint, and the last one is found."""
    registry.register(GRAPH)


def assembly(store: MemoryStore, lease: timedelta, *, ledger: MemoryLedger | None = None) -> Assembly:
    options = Options(owner="me", lease=lease)
    lane = local_lane(GRAPH, options)
    if ledger is not None:
        lane = replace(lane, ledger=ledger)
    return Assembly(store, lane, Orchestrator(store, lane=lane, options=options), None)


async def submitted(store: MemoryStore, *, lease: timedelta) -> Assembly:
    ours = assembly(store, lease)
    await ours.orchestrator.submit(GRAPH, Numbers(numbers=[1, 2]), run_id="r")
    return ours


async def test_a_run_that_waits_is_driven_to_its_end() -> None:
    store = MemoryStore()
    server = Server(await submitted(store, lease=timedelta(seconds=10)), most=1)
    async with asyncio.timeout(10):
        while (await store.find("r")).status is not RunStatus.SUCCEEDED:
            await server.look()
            await asyncio.sleep(0.01)


async def test_a_lease_that_ends_in_a_day_and_is_never_renewed_is_not_waited_for() -> None:
    store = MemoryStore()
    server = Server(await submitted(store, lease=timedelta(seconds=0.1)), most=1)
    await store.acquire("r", "a ghost", invocation_id="r", lease=timedelta(days=1))
    async with asyncio.timeout(10):
        while (await store.find("r")).status is not RunStatus.SUCCEEDED:
            await server.look()
            await asyncio.sleep(0.01)
    assert (await store.find("r")).owner == "me"


async def test_the_lease_of_a_process_of_this_host_that_is_gone_is_not_waited_for() -> None:
    store = MemoryStore()
    server = Server(await submitted(store, lease=timedelta(hours=1)), most=1)
    dead = str(replace(this_owner("orchestrator"), started_ms=1))
    await store.acquire("r", dead, invocation_id="r", lease=timedelta(hours=1))
    async with asyncio.timeout(10):
        while (await store.find("r")).status is not RunStatus.SUCCEEDED:
            await server.look()
            await asyncio.sleep(0.01)


async def test_a_lease_that_is_renewed_is_respected() -> None:
    store = MemoryStore()
    server = Server(await submitted(store, lease=timedelta(seconds=0.1)), most=1)
    own = await store.acquire("r", "another", invocation_id="r", lease=timedelta(days=1))
    for _ in range(30):
        await store.renew(own, lease=timedelta(days=1))
        await server.look()
        await asyncio.sleep(0.02)
    assert (await store.find("r")).owner == "another"


class Counting(MemoryStore):
    """A store that counts how often its runs are listed."""

    lists = 0

    async def list_runs(self, which: RunFilter) -> list[Run]:
        self.lists += 1
        return await super().list_runs(which)


async def unknown(store: MemoryStore, count: int) -> None:
    """Open runs that are not for this server."""
    for number in range(count):
        await store.create(new_run(f"unknown-{number}", graph="nobody's"))


async def test_runs_behind_any_number_of_others_are_driven_two_pages_a_look_the_oldest_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "rollforward.server")
    store = Counting()
    ours = assembly(store, timedelta(seconds=10))
    await unknown(store, 10)
    names = [f"ours-{number}" for number in range(5)]
    for name in names:
        await ours.orchestrator.submit(GRAPH, Numbers(numbers=[1, 2]), run_id=name)
    server = Server(ours, most=1, page_runs=3)
    looks = 0
    async with asyncio.timeout(20):
        while (await store.find(names[-1])).status is not RunStatus.SUCCEEDED:
            await server.look()
            looks += 1
            await asyncio.sleep(0.01)
    assert [getattr(record, "run_id", "") for record in caplog.records if record.message == "run taken"] == names
    # Once a minute the runs that are over are listed as well.
    assert store.lists <= 2 * looks + 1


async def test_an_old_run_that_waits_again_is_seen_at_once_however_far_the_look_has_gone() -> None:
    store = MemoryStore()
    ours = await submitted(store, lease=timedelta(seconds=10))
    own = await store.acquire("r", "another", invocation_id="r", lease=timedelta(hours=1))
    await unknown(store, 10)
    server = Server(ours, most=1, page_runs=3)
    for _ in range(2):
        await server.look()
    await store.finish(own, RunStatus.SUBMITTED)
    await server.look()
    assert (await store.find("r")).owner == "me"
    await server.hand_back()


async def test_a_lease_that_is_never_renewed_is_not_waited_for_behind_many_other_runs() -> None:
    store = MemoryStore()
    await unknown(store, 10)
    server = Server(await submitted(store, lease=timedelta(seconds=0.1)), most=1, page_runs=3)
    await store.acquire("r", "a ghost", invocation_id="r", lease=timedelta(days=1))
    async with asyncio.timeout(10):
        while (await store.find("r")).owner != "me":
            await server.look()
            await asyncio.sleep(0.01)
    await server.hand_back()


async def test_of_an_unknown_graph_a_server_speaks_once(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    await unknown(store, 10)
    server = Server(assembly(store, timedelta(seconds=10)), most=1, page_runs=3)
    for _ in range(5):
        await server.look()
    assert [record.message for record in caplog.records] == ["run of an unknown graph left alone"]


class Behind(MemoryStore):
    """A store that lists its runs as they were at some moment, as a server sees them that is slower than another."""

    listed: list[Run] | None = None

    async def remember(self) -> None:
        self.listed = await self.list_runs(RunFilter())

    async def list_runs(self, which: RunFilter) -> list[Run]:
        return await super().list_runs(which) if self.listed is None else self.listed


async def brought_to_its_end(store: Behind) -> Assembly:
    """A run that is listed as it was submitted, although another server has driven it to its end since."""
    ours = await submitted(store, lease=timedelta(seconds=10))
    await store.remember()
    await (await ours.orchestrator.start("r", GRAPH)).result()
    return ours


async def test_a_run_that_another_has_brought_to_its_end_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rollforward.server")
    store = Behind()
    server = Server(await brought_to_its_end(store), most=1)
    await server.look()
    await server.hand_back()
    assert [record.message for record in caplog.records] == ["run not taken"]


async def test_a_run_that_is_over_uses_no_slot() -> None:
    store = Behind()
    ours = await brought_to_its_end(store)
    await ours.orchestrator.submit(GRAPH, Numbers(numbers=[1, 2]), run_id="waits")
    store.listed = [await store.find("waits"), *(store.listed or [])]
    server = Server(ours, most=1)
    await server.look()
    assert (await store.find("waits")).status is RunStatus.RUNNING
    await server.hand_back()


class Broken(MemoryLedger):
    """A ledger that holds broken keys of some runs."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = set(broken)

    async def epoch(self, run_id: str) -> int:
        if run_id in self.broken:
            raise ValueError("a key of the wrong type")
        return await super().epoch(run_id)


async def with_broken(*broken: str) -> tuple[MemoryStore, Broken, Server]:
    """A server before which two runs wait; the first is the older one."""
    store, ledger = MemoryStore(), Broken(*broken)
    ours = assembly(store, timedelta(seconds=10), ledger=ledger)
    for name in ("first", "second"):
        await ours.orchestrator.submit(GRAPH, Numbers(numbers=[1, 2]), run_id=name)
    return store, ledger, Server(ours, most=1)


async def test_a_run_whose_keys_are_broken_keeps_no_other_from_being_driven() -> None:
    store, _, server = await with_broken("first")
    await server.look()
    assert [(await store.find(name)).owner for name in ("first", "second")] == [None, "me"]
    await server.hand_back()


async def test_of_a_run_whose_keys_are_broken_a_server_speaks_once(caplog: pytest.LogCaptureFixture) -> None:
    _, _, server = await with_broken("first", "second")
    for _ in range(5):
        await server.look()
    said = [(record.message, vars(record)["run_id"]) for record in caplog.records]
    assert said == [("broken run left alone", "first"), ("broken run left alone", "second")]
    assert all(record.exc_info for record in caplog.records)


async def test_a_run_whose_keys_were_mended_is_driven() -> None:
    store, ledger, server = await with_broken("first", "second")
    await server.look()
    ledger.broken.clear()
    await server.look()
    assert (await store.find("first")).owner == "me"
    await server.hand_back()


async def test_of_a_run_that_breaks_again_a_server_speaks_again(caplog: pytest.LogCaptureFixture) -> None:
    store, ledger, server = await with_broken("first")
    await server.look()
    ledger.broken.clear()
    await server.hand_back()
    await server.look()
    assert (await store.find("first")).owner == "me"
    await server.hand_back()
    ledger.broken.add("first")
    await server.look()
    await server.hand_back()
    assert [record.message for record in caplog.records] == ["broken run left alone"] * 2


async def test_what_a_run_that_is_over_has_left_ends_no_look_where_its_keys_are_broken() -> None:
    store, _, server = await with_broken("first", "second")
    for name in ("first", "second"):
        own = await store.acquire(name, "another", invocation_id=name, lease=timedelta(hours=1))
        await store.finish(own, RunStatus.SUCCEEDED)
    await server.look()
