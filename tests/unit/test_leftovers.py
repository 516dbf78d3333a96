"""What a dead owner has left of a run that is over is taken out of the ledger, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import LedgerLost, LedgerUnavailable
from orchestrator.execution.lane import Lane
from orchestrator.execution.local import LocalExecutor
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Opening
from rollforward.leftovers import EVERY_SECONDS, Leftovers
from tests.contract.checkpoint_case import owned
from tests.contract.ledger_case import FAN_OUT, Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Asked(MemoryLedger):
    """A ledger that notes which runs it was asked for, is away for a while, and holds broken keys of some runs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_away = False
        self.broken: set[str] = set()

    async def epoch(self, run_id: str) -> int:
        self.asked.append(run_id)
        if run_id in self.broken:
            raise ValueError("a key of the wrong type")
        return await super().epoch(run_id)

    async def forget(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        if self.is_away:
            raise LedgerUnavailable("away")
        await super().forget(run_id, epoch, fan_out=fan_out)


class Case:
    """A store and a ledger, and whoever looks after what is left in it."""

    def __init__(self) -> None:
        self.now = NOON
        self.store, self.ledger, self.clock = MemoryStore(clock=lambda: self.now), Asked(), Clock()
        runtime = Runtime(worker="here", find=lambda _name, _fingerprint: pytest.fail("nothing runs"))
        lane = Lane(ledger=self.ledger, executor=LocalExecutor(self.ledger, runtime))
        self.leftovers = Leftovers(self.store, lane, clock=self.clock, page_runs=3)

    async def next_minute(self) -> None:
        """Look a minute after the last time, to the last page."""
        self.clock.advance(EVERY_SECONDS)
        for _ in range(5):
            await self.leftovers.clear()

    async def left(self, run_id: str, status: RunStatus | None) -> None:
        """A run in the ledger, whose owner wrote this outcome and died."""
        own = await owned(self.store, run_id)
        await self.ledger.open(run_id, own.epoch, Opening(FAN_OUT, Bitmap(1), b"", ""))
        if status is not None:
            await self.store.finish(own, status)

    async def is_there(self, run_id: str) -> bool:
        try:
            await self.ledger.sweep(run_id, 1, [])
        except LedgerLost:
            return False
        return True


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED])
async def test_a_run_that_is_over_is_taken_out(status: RunStatus) -> None:
    case = Case()
    await case.left("run-1", status)
    await case.leftovers.clear()
    assert not await case.is_there("run-1")


@pytest.mark.parametrize("status", [None, RunStatus.FAILED, RunStatus.SUBMITTED])
async def test_a_run_that_goes_on_or_may_stays(status: RunStatus | None) -> None:
    case = Case()
    await case.left("run-1", status)
    await case.leftovers.clear()
    assert await case.is_there("run-1")


async def test_a_run_that_the_ledger_does_not_know_leaves_no_trace_there() -> None:
    case = Case()
    await case.store.finish(await owned(case.store), RunStatus.SUCCEEDED)
    await case.leftovers.clear()
    assert await case.ledger.epoch("run-1") == 0


async def test_those_that_end_later_are_taken_out_a_minute_later() -> None:
    case = Case()
    await case.leftovers.clear()
    await case.left("run-1", RunStatus.SUCCEEDED)
    await case.leftovers.clear()
    assert await case.is_there("run-1")
    case.clock.advance(EVERY_SECONDS)
    await case.leftovers.clear()
    assert not await case.is_there("run-1")


async def test_runs_that_ended_on_many_pages_are_taken_out_without_a_wait() -> None:
    case = Case()
    for number in range(7):
        await case.left(f"run-{number}", RunStatus.SUCCEEDED)
    for _ in range(3):
        await case.leftovers.clear()
    assert not any([await case.is_there(f"run-{number}") for number in range(7)])


async def test_an_old_run_that_ends_late_is_taken_out() -> None:
    case = Case()
    old = await owned(case.store, "old")
    await case.ledger.open("old", old.epoch, Opening(FAN_OUT, Bitmap(1), b"", ""))
    for number in range(7):
        case.now += timedelta(hours=1)
        await case.left(f"run-{number}", RunStatus.SUCCEEDED)
    await case.next_minute()
    case.now += timedelta(hours=1)
    await case.store.finish(old, RunStatus.SUCCEEDED)
    await case.next_minute()
    assert not await case.is_there("old")


async def test_each_run_is_asked_for_once() -> None:
    case = Case()
    names = [f"run-{number}" for number in range(20)]
    for name in names:
        case.now += timedelta(seconds=20)
        await case.left(name, RunStatus.SUCCEEDED)
        await case.next_minute()
    for _ in range(5):
        await case.next_minute()
    assert case.ledger.asked == names


async def test_an_end_that_is_seen_after_a_later_one_is_not_passed_over() -> None:
    case = Case()
    await case.left("later", RunStatus.SUCCEEDED)
    await case.next_minute()
    case.now -= timedelta(seconds=30)
    await case.left("earlier", RunStatus.SUCCEEDED)
    await case.next_minute()
    assert not await case.is_there("earlier")


async def test_an_end_that_is_seen_after_a_last_page_that_was_full_is_not_passed_over() -> None:
    case = Case()
    later = [f"later-{number}" for number in range(3)]
    for name in later:
        await case.left(name, RunStatus.SUCCEEDED)
    await case.next_minute()
    case.now -= timedelta(seconds=30)
    await case.left("earlier", RunStatus.SUCCEEDED)
    await case.next_minute()
    assert not await case.is_there("earlier")
    assert case.ledger.asked == [*later, "earlier"]


async def test_minutes_in_which_nothing_is_found_lead_back_no_further_than_the_first() -> None:
    case = Case()
    for number in range(3):
        await case.left(f"run-{number}", RunStatus.SUCCEEDED)
    await case.next_minute()
    for number in range(3):
        await case.store.delete(f"run-{number}")
    for _ in range(5):
        await case.next_minute()
    case.now -= timedelta(minutes=2)
    await case.left("long-ago", RunStatus.SUCCEEDED)
    await case.next_minute()
    assert "long-ago" not in case.ledger.asked


async def test_a_run_whose_keys_are_broken_keeps_no_other_from_being_taken_out() -> None:
    case = Case()
    names = [f"run-{number}" for number in range(7)]
    for name in names:
        await case.left(name, RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    await case.next_minute()
    assert [name for name in names if await case.is_there(name)] == ["run-1"]


async def test_a_run_whose_keys_are_broken_is_spoken_of_once(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    for _ in range(5):
        await case.next_minute()
    said = [(record.message, vars(record)["run_id"]) for record in caplog.records]
    assert said == [("leftovers of a broken run stay", "run-1")]
    assert caplog.records[0].exc_info is not None


async def test_a_run_whose_keys_were_mended_is_taken_out_however_many_have_ended_since() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    await case.next_minute()
    for number in range(2, 9):
        case.now += timedelta(hours=1)
        await case.left(f"run-{number}", RunStatus.SUCCEEDED)
    await case.next_minute()
    case.ledger.broken = set()
    await case.next_minute()
    assert not await case.is_there("run-1")
    asked = len(case.ledger.asked)
    await case.next_minute()
    assert len(case.ledger.asked) == asked


async def test_of_any_number_of_broken_runs_a_page_is_gone_back_to() -> None:
    case = Case()
    names = [f"run-{number}" for number in range(5)]
    for name in names:
        await case.left(name, RunStatus.SUCCEEDED)
    case.ledger.broken = set(names)
    await case.next_minute()
    case.ledger.broken = set()
    await case.next_minute()
    assert [name for name in names if await case.is_there(name)] == names[3:]


async def test_broken_runs_that_were_deleted_take_no_room() -> None:
    case = Case()
    names = [f"run-{number}" for number in range(3)]
    for name in names:
        await case.left(name, RunStatus.SUCCEEDED)
    case.ledger.broken = {*names, "later"}
    await case.next_minute()
    for name in names:
        await case.store.delete(name)
    await case.next_minute()
    await case.left("later", RunStatus.SUCCEEDED)
    await case.next_minute()
    case.ledger.broken = set()
    await case.next_minute()
    assert not await case.is_there("later")


async def test_a_run_that_is_kept_under_the_name_of_a_broken_one_stays() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    await case.next_minute()
    await case.store.delete("run-1")
    case.ledger.broken = set()
    await case.left("run-1", None)
    await case.left("run-10", RunStatus.FAILED)
    await case.next_minute()
    assert await case.is_there("run-1")


async def test_a_broken_run_that_was_deleted_is_not_asked_for_again() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    await case.next_minute()
    await case.store.delete("run-1")
    await case.left("run-10", RunStatus.SUCCEEDED)
    asked = case.ledger.asked.count("run-1")
    await case.next_minute()
    assert (case.ledger.asked.count("run-1"), case.ledger.asked.count("run-10")) == (asked, 1)


async def test_a_ledger_that_is_away_ends_the_look_also_where_keys_are_broken() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.broken = {"run-1"}
    await case.next_minute()
    case.ledger.broken, case.ledger.is_away = set(), True
    with pytest.raises(LedgerUnavailable):
        await case.next_minute()
    case.ledger.is_away = False
    await case.next_minute()
    assert not await case.is_there("run-1")


async def test_a_ledger_that_is_away_is_asked_for_no_other_run_of_the_page() -> None:
    case = Case()
    for name in ("run-0", "run-1"):
        await case.left(name, RunStatus.SUCCEEDED)
    case.ledger.is_away = True
    with pytest.raises(LedgerUnavailable):
        await case.leftovers.clear()
    assert case.ledger.asked == ["run-0"]


async def test_a_ledger_that_is_away_is_gone_back_to() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.is_away = True
    with pytest.raises(LedgerUnavailable):
        await case.leftovers.clear()
    case.ledger.is_away = False
    await case.next_minute()
    assert not await case.is_there("run-1")
