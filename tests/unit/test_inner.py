"""What running instances tell is recorded once, in its order, and given to those that run again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import FanOutRow, NewRun, Step
from orchestrator.errors import CheckpointUnavailable
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.journal import RunJournal
from orchestrator.execution.patience import Patience
from orchestrator.fan_out.entry import (
    Entry,
    EventsTold,
    NestedOpened,
    NestedReported,
    NodeCompleted,
    read_entries,
    write_entry,
)
from orchestrator.fan_out.fan_in import fold_of
from orchestrator.fan_out.heard import Unheard
from orchestrator.fan_out.inner import InnerRecords
from orchestrator.fan_out.inside import insides
from orchestrator.fan_out.plan import make_plan
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import EnclosingInstance, FanOutKey, Slot
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Progress
from orchestrator.report import Outcome, Report
from tests.unit.graph_of_numbers import Numbers, numbers_graph

KEY = FanOutKey((), "squares")
INSIDE = KEY.enclosing(0)
PAGES = FanOutKey(("squares",), "pages", INSIDE)
PLAN = make_plan(numbers_graph().fan_out_at(["squares"]), Numbers(numbers=[3, 5]), KEY)
BRIEFING = Briefing(
    run_id="r",
    invocation_id="r",
    correlation_id="c",
    graph="numbers",
    fingerprint="f",
    fan_out=KEY,
    inputs="{}",
    instance_count=2,
    max_result_bytes=1000,
    events_wanted=("started",),
)

OPENED = NestedOpened(FanOutRow(key=PAGES, instance_count=3, item_hashes=b"8 bytes." * 3))
COMPLETED = NodeCompleted(
    Step(position=0, namespace=("squares",), node="fetch", state="{}", lineage=INSIDE, invocation_id="r")
)
HAPPENED = EventsTold("r", 1, ("an event",))


def reported(index: int, fan_out: FanOutKey = PAGES, **told: Any) -> NestedReported:
    report = Report(
        slot=Slot(fan_out.id, index),
        outcome=Outcome.SUCCEEDED,
        token="t",
        delivery=1,
        worker="w",
        invocation_id="r",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_seconds=0.5,
        partial='{"out":2}',
    )
    return NestedReported(replace(report, **told), f"page {index}")


def report_that_folded(*pages: NestedReported, fan_out: FanOutKey = PAGES) -> Report:
    """The outer instance's report, with these contributions in its one nested fan-out."""
    folds = (fold_of(fan_out.id, [page.report for page in pages]),)
    return replace(pages[0].report, slot=Slot(KEY.id, 0), folds=folds)


class Telling(MemoryLedger):
    """Tells of every instance what a test has put there, no more than so many entries of one, or of all, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[Slot, list[bytes]] = {}
        self.at_once = 100
        self.given_before = 0
        self.room = 1000

    def put(self, index: int, *entries: Entry) -> None:
        self.entries.setdefault(Slot(KEY.id, index), []).extend(write_entry(entry) for entry in entries)

    async def told(self, _run_id: str, _epoch: int, since: Mapping[Slot, int]) -> list[Progress]:
        answers, room = [], self.room
        for slot, start in since.items():
            fresh = tuple(self.entries.get(slot, [])[start : start + min(self.at_once, room)])
            room -= len(fresh)
            answers.append(Progress(start + len(fresh), fresh, max(self.given_before - start, 0)))
        return answers


@dataclass
class Listening(Unheard):
    """Notes what it hears, in order."""

    heard: list[Any] = field(default_factory=list)

    def happened(self, index: int, told: EventsTold) -> None:
        self.heard.append((index, told))

    def repeated(self, index: int, told: EventsTold) -> None:
        self.heard.append(("repeated", index, told))

    def completed(self, step: Step) -> None:
        self.heard.append(step.node)

    def contributed(self, fan_out: FanOutRow, report: Report) -> None:
        self.heard.append((fan_out.key.node, report.slot.index))

    def ended(self, report: Report) -> None:
        self.heard.append(report.slot)


class Faltering(MemoryStore):
    """Says that it failed, after it has kept what happened inside an instance, the first time."""

    has_failed = False

    async def record_inner(self, *given: Any) -> None:
        await super().record_inner(*given)
        if not self.has_failed:
            self.has_failed = True
            raise CheckpointUnavailable("gone")


@dataclass
class Case:
    """A fan-out of two instances that tell, and the record of its run."""

    store: MemoryStore
    telling: Telling
    inner: InnerRecords
    fan_out: OpenFanOut
    heard: list[Any]

    @classmethod
    async def made(cls, store: MemoryStore) -> "Case":
        new = NewRun(run_id="r", graph="g", fingerprint="f", correlation_id="c", state="{}")
        await store.create(new)
        ownership = await store.acquire("r", "me", invocation_id="r", lease=timedelta(minutes=5))
        journal = RunJournal(store, ownership, Patience(), steps=await store.steps("r"), fan_outs=[])
        telling, listening = Telling(), Listening()
        ended = asyncio.get_running_loop().create_future()
        fan_out = OpenFanOut(PLAN, BRIEFING, Bitmap(2), ended, heard=listening)
        return cls(store, telling, InnerRecords(telling, store, journal, ownership), fan_out, listening.heard)

    async def take(self) -> None:
        await self.inner.take(self.fan_out, [Slot(KEY.id, index) for index in range(2)])

    async def recorded_pages(self) -> list[int]:
        return [row.report.slot.index async for row in self.store.slots("r", PAGES.id)]

    async def recorded_nodes(self) -> list[str]:
        return [step.node for step in await self.store.steps("r")][1:]

    async def bears_out(self, report: Report) -> bool:
        return await self.inner.bears_out(self.fan_out, report)

    async def given_again(self) -> list[Entry]:
        item = await self.inner.item(self.fan_out, Slot(KEY.id, 0))
        return read_entries(item.progress)


@pytest.fixture
async def case() -> Case:
    return await Case.made(MemoryStore())


async def test_what_is_told_is_recorded_and_then_heard_in_its_order(case: Case):
    case.telling.put(0, OPENED, HAPPENED, reported(0), COMPLETED, reported(2))
    await case.take()
    assert case.heard == [(0, HAPPENED), ("pages", 0), "fetch", ("pages", 2)]
    assert (await case.recorded_pages(), await case.recorded_nodes()) == ([0, 2], ["fetch"])


async def test_what_is_beyond_one_answer_is_taken_at_once_as_well(case: Case):
    case.telling.at_once = 1
    case.telling.put(0, OPENED, reported(0), reported(1))
    case.telling.put(1, COMPLETED)
    await case.take()
    assert await case.recorded_pages() == [0, 1]
    assert await case.recorded_nodes() == ["fetch"]


async def test_what_another_delivery_tells_again_is_recorded_and_heard_once(case: Case):
    for entries in ([], [reported(1)], []):
        case.telling.put(0, OPENED, reported(0), COMPLETED, *entries)
        await case.take()
    assert case.heard == [("pages", 0), "fetch", ("pages", 1)]
    assert await case.recorded_nodes() == ["fetch"]


async def test_nothing_is_heard_before_it_is_recorded():
    case = await Case.made(Faltering())
    case.telling.put(0, OPENED, reported(0))
    with pytest.raises(CheckpointUnavailable):
        await case.take()
    assert case.heard == []
    await case.take()
    assert case.heard == [("pages", 0)]


async def test_of_a_fan_out_whose_instances_have_nothing_to_tell_nobody_is_asked(case: Case):
    case.fan_out.briefing = replace(BRIEFING, events_wanted=())
    case.telling.put(0, COMPLETED)
    await case.take()
    assert await case.recorded_nodes() == []


async def test_one_that_runs_again_is_given_what_is_recorded_in_the_order_in_which_it_happened(case: Case):
    again = replace(PAGES, visit=1)
    reopened = NestedOpened(replace(OPENED.row, key=again))
    after = NodeCompleted(replace(COMPLETED.step, node="parse"))
    for entry in (OPENED, reported(1), COMPLETED, reopened, after):
        case.telling.put(0, entry)
        await case.take()
    given = await case.given_again()
    assert [entry.row.key.visit if isinstance(entry, NestedOpened) else type(entry) for entry in given] == [
        0,
        NestedReported,
        NodeCompleted,
        1,
        NodeCompleted,
    ]


async def test_events_that_are_read_again_are_not_heard_again(case: Case):
    case.telling.put(0, HAPPENED)
    await case.take()
    case.fan_out.bring_back([Slot(KEY.id, 0)])
    case.telling.put(0, replace(HAPPENED, delivery=2))
    await case.take()
    assert case.heard == [(0, HAPPENED), (0, replace(HAPPENED, delivery=2))]


async def test_a_slot_for_which_an_answer_had_no_room_is_asked_again(case: Case):
    case.telling.room = 2
    case.telling.put(0, OPENED, reported(0), reported(1))
    case.telling.put(1, COMPLETED)
    await case.take()
    assert (await case.recorded_pages(), await case.recorded_nodes()) == ([0, 1], ["fetch"])


async def test_a_report_is_borne_out_by_just_what_it_folded(case: Case):
    case.telling.put(0, OPENED, reported(0), reported(2))
    await case.take()
    assert await case.bears_out(report_that_folded(reported(0), reported(2)))
    assert not await case.bears_out(report_that_folded(reported(0), reported(1), reported(2)))
    assert not await case.bears_out(report_that_folded(reported(0)))
    assert not await case.bears_out(report_that_folded(reported(0), reported(2, partial="{}")))
    assert not await case.bears_out(report_that_folded(reported(0), fan_out=replace(PAGES, visit=1)))


async def test_a_report_is_borne_out_by_what_an_earlier_owner_has_recorded(case: Case):
    case.telling.put(0, OPENED, reported(0), reported(1))
    await case.take()
    case.telling.entries.clear()
    case.fan_out.inside = insides(KEY, await case.store.fan_outs("r"), await case.store.steps("r"))
    assert await case.bears_out(report_that_folded(reported(0), reported(1)))
    assert not await case.bears_out(report_that_folded(reported(0)))


async def test_what_an_earlier_owner_has_recorded_is_not_heard_again(case: Case):
    case.telling.put(0, OPENED, reported(0), COMPLETED)
    await case.take()
    case.heard.clear()
    case.fan_out.inside = insides(KEY, await case.store.fan_outs("r"), await case.store.steps("r"))
    await case.take()
    assert case.heard == []


async def test_a_contribution_to_a_fan_out_whose_entry_was_lost_is_left_out(case: Case):
    case.telling.put(0, reported(0))
    await case.take()
    assert (case.heard, await case.recorded_pages()) == ([], [])


async def test_a_contribution_to_other_items_than_the_recorded_ones_is_left_out(case: Case):
    other = NestedOpened(replace(OPENED.row, instance_count=9, item_hashes=b"the rest" * 9))
    case.telling.put(0, OPENED, reported(0), other, reported(1), reported(7), OPENED, reported(2), reported(7))
    await case.take()
    assert await case.recorded_pages() == [0, 2]


async def test_a_nested_instance_and_a_node_are_left_out_where_what_they_rest_on_is_not_recorded(case: Case):
    lines = FanOutKey(("squares", "pages"), "lines", PAGES.enclosing(0))
    opened = NestedOpened(FanOutRow(key=lines, instance_count=2, item_hashes=b"8 bytes." * 2))
    folds = report_that_folded(reported(0, lines), reported(1, lines), fan_out=lines).folds
    resting = reported(0, folds=folds), NodeCompleted(replace(COMPLETED.step, folds=folds))
    case.telling.put(0, OPENED, opened, reported(0, lines), *resting)
    await case.take()
    assert (await case.recorded_pages(), await case.recorded_nodes()) == ([], [])
    case.telling.put(0, reported(1, lines), *resting)
    await case.take()
    assert (await case.recorded_pages(), await case.recorded_nodes()) == ([0], ["fetch"])


async def test_after_a_write_that_may_have_been_done_the_record_is_read_again():
    case = await Case.made(Faltering())
    case.telling.put(0, OPENED, reported(0))
    with pytest.raises(CheckpointUnavailable):
        await case.take()
    case.telling.entries.clear()
    case.telling.put(0, OPENED, reported(0, partial="{}"))
    await case.take()
    assert await case.bears_out(report_that_folded(reported(0)))
    assert not await case.bears_out(report_that_folded(reported(0, partial="{}")))


async def test_one_that_has_told_nothing_is_given_nothing(case: Case):
    case.telling.put(1, OPENED, reported(1))
    await case.take()
    assert await case.given_again() == []


def test_what_is_inside_instances_of_another_fan_out_is_not_inside_those_of_this_one():
    def opened_in(enclosing: EnclosingInstance) -> FanOutRow:
        return FanOutRow(key=FanOutKey(("x",), "pages", (enclosing,)), instance_count=1, item_hashes=b"")

    rows = [
        opened_in(EnclosingInstance((), "squares", 1)),
        opened_in(EnclosingInstance((), "others", 1)),
        opened_in(EnclosingInstance(("sub",), "squares", 1)),
        opened_in(EnclosingInstance((), "squares", 1, visit=1)),
        FanOutRow(key=FanOutKey((), "others"), instance_count=1, item_hashes=b""),
    ]
    found = insides(KEY, rows, [replace(COMPLETED.step, lineage=KEY.enclosing(4))])
    assert {index: list(one.fan_outs) for index, one in found.items()} == {1: [rows[0].id], 4: []}


async def test_events_that_an_earlier_owner_was_given_are_passed_over_and_what_it_did_not_record_is_recorded(case):
    later = EventsTold("r", 1, ("another",))
    case.telling.put(0, HAPPENED, COMPLETED, later)
    case.telling.given_before = 2
    await case.take()
    assert case.heard == [("repeated", 0, HAPPENED), "fetch", (0, later)]
    assert await case.recorded_nodes() == ["fetch"]
    case.fan_out.start_over()
    await case.take()
    assert len(case.heard) == 3
