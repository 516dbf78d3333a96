"""What a dead owner has left of a run that is over is taken out of the ledger, and nothing else."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import LedgerLost, LedgerUnavailable
from orchestrator.execution.lane import Lane
from orchestrator.execution.local import LocalExecutor
from orchestrator.instance.run import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Opening
from rollforward.leftovers import EVERY_SECONDS, Leftovers
from tests.contract.checkpoint_case import owned
from tests.contract.ledger_case import FAN_OUT, Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Asked(MemoryLedger):
    """A ledger that notes which runs it was asked for, and is away for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_away = False

    async def epoch(self, run_id: str) -> int:
        self.asked.append(run_id)
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


async def test_a_ledger_that_is_away_is_gone_back_to() -> None:
    case = Case()
    await case.left("run-1", RunStatus.SUCCEEDED)
    case.ledger.is_away = True
    with pytest.raises(LedgerUnavailable):
        await case.leftovers.clear()
    case.ledger.is_away = False
    await case.next_minute()
    assert not await case.is_there("run-1")
