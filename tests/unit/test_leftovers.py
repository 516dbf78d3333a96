"""What a dead owner has left of a run that is over is taken out of the ledger, and nothing else."""

import pytest

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import LedgerLost
from orchestrator.execution.lane import Lane
from orchestrator.execution.local import LocalExecutor
from orchestrator.instance.run import Runtime
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import Opening
from rollforward.leftovers import EVERY_SECONDS, Leftovers
from tests.contract.checkpoint_case import owned
from tests.contract.ledger_case import FAN_OUT, Clock


class Case:
    """A store and a ledger, and whoever looks after what is left in it."""

    def __init__(self) -> None:
        self.store, self.ledger, self.clock = MemoryStore(), MemoryLedger(), Clock()
        runtime = Runtime(worker="here", find=lambda _name, _fingerprint: pytest.fail("nothing runs"))
        lane = Lane(ledger=self.ledger, executor=LocalExecutor(self.ledger, runtime))
        self.leftovers = Leftovers(self.store, lane, clock=self.clock)

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
