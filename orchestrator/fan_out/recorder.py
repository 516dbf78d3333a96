"""The loop between the ledger and the record: what is reported is recorded, closed, and makes room for more."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.checkpoint.protocol import Checkpointer
from orchestrator.checkpoint.row import Ownership, SlotRow
from orchestrator.errors import Fenced, LedgerLost, LedgerUnavailable, OperatorError, RemoteError
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.patience import RETRY_SECONDS
from orchestrator.fan_out.dispatch import Dispatcher
from orchestrator.fan_out.pace import Pace
from orchestrator.fan_out.policy import Meaning, meaning
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.sweeping import Sweeper
from orchestrator.ledger.view import LiveState
from orchestrator.report import Report

if TYPE_CHECKING:
    from orchestrator.identity import Slot

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
LINGER_SECONDS = 0.02
LINGER_FROM = 8
"""So many more reports are worth a short wait: it saves commits, and the workers have enough to do meanwhile."""


class Recorder:
    """Records the reports of one invocation's fan-outs in one lane, and keeps their windows full.

    `health` says in a sentence what keeps it from its work, or is None.
    """

    def __init__(self, lane: Lane, checkpointer: Checkpointer, ownership: Ownership, options: Options) -> None:
        self.health: str | None = None
        self._ledger = lane.ledger
        self._checkpointer = checkpointer
        self._ownership = ownership
        self._options = options
        self._open: dict[str, OpenFanOut] = {}
        self._reported: dict[Slot, Report] = {}
        self._dispatcher = Dispatcher(lane, ownership, options)
        self._sweeper = Sweeper(lane, checkpointer, ownership, options)
        self._loop: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[list[Report]] | None = None
        self._kicked = asyncio.Event()
        self._pace = Pace()
        self._sweep_at = 0.0

    @property
    def open(self) -> Iterable[OpenFanOut]:
        return tuple(self._open.values())

    async def complete(self, fan_out: OpenFanOut) -> None:
        """Bring a fan-out to its end.

        Raises:
            RemoteError: under `fail_fast`, why its first failed instance failed.
            Fenced: another orchestrator owns the run.
        """
        if fan_out.is_complete:
            return
        self._open[fan_out.id] = fan_out
        self._kicked.set()
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run(), name=f"recorder-{self._ownership.run_id}")
        try:
            await fan_out.ended
        finally:
            self._open.pop(fan_out.id, None)

    async def close(self) -> None:
        """Stop; what is outstanding stays in the ledger."""
        tasks = [task for task in (self._loop, self._listening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while self._open:
            try:
                await self._turn()
                failures, self.health = 0, self._dispatcher.health
            except LedgerLost:
                log.warning("ledger lost, opening it again from the record", extra={"run_id": self._ownership.run_id})
                self._start_over()
            except OperatorError as error:
                self.health = str(error)
                await self._wait_out(error, failures)
                failures += 1
            except Exception as error:  # noqa: BLE001 - it ends every fan-out here, with this very reason
                self._abandon(error)
                return

    async def _turn(self) -> None:
        for fan_out in self.open:
            await self._announce(fan_out)
        for fan_out in self.open:
            await self._dispatcher.fill(fan_out)
        for report in await self._news():
            self._reported[report.slot] = report
        await self._record()
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + SWEEP_SECONDS
            await self._sweep()
        self._settle()

    async def _announce(self, fan_out: OpenFanOut) -> None:
        if not fan_out.is_announced:
            await self._ledger.open(self._ownership.run_id, self._ownership.epoch, fan_out.opening())
            fan_out.is_announced = True

    async def _news(self) -> list[Report]:
        """Wait for reports, for a new fan-out, or until it is time to sweep."""
        if self._listening is None:
            await self._linger()
            waiting = self._ledger.reports(self._ownership.run_id, wait_seconds=SWEEP_SECONDS)
            self._listening = asyncio.create_task(waiting)
        kicked = asyncio.create_task(self._kicked.wait())
        try:
            await asyncio.wait({self._listening, kicked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            kicked.cancel()
        self._kicked.clear()
        if not self._listening.done():
            return []
        heard, self._listening = self._listening, None
        reports = heard.result()
        self._pace.note(len(reports), time.monotonic())
        return reports

    async def _linger(self) -> None:
        """Wait a little where that brings enough reports, and leaves the workers half of the window at least."""
        coming = self._pace.note(0, time.monotonic()) * LINGER_SECONDS
        outstanding = sum(len(fan_out.outstanding) for fan_out in self._open.values())
        if LINGER_FROM <= coming <= outstanding / 2:
            await asyncio.sleep(LINGER_SECONDS)

    async def _record(self) -> None:
        """Commit what is reported, then close it: nothing leaves the ledger before the record has it."""
        for fan_out in self.open:
            reports = sorted(
                (report for report in self._reported.values() if report.slot.fan_out == fan_out.id),
                key=lambda report: report.slot.index,
            )
            if reports:
                await self._record_of(fan_out, reports)
                for report in reports:
                    del self._reported[report.slot]

    async def _record_of(self, fan_out: OpenFanOut, reports: Sequence[Report]) -> None:
        plan, run_id, epoch = fan_out.plan, self._ownership.run_id, self._ownership.epoch
        means = {report.slot: meaning(plan.node, report, self._ownership.invocation_id) for report in reports}
        leftovers = [slot for slot, what in means.items() if what is Meaning.LEFTOVER]
        if leftovers:
            await self._ledger.reset(run_id, epoch, leftovers)
            fan_out.bring_back(leftovers)
        kept = [report for report in reports if means[report.slot] is not Meaning.LEFTOVER]
        rows = [
            SlotRow(report, means[report.slot] is Meaning.CONTRIBUTION, plan.item_key(report.slot.index))
            for report in kept
        ]
        await self._checkpointer.record(self._ownership, rows)
        await self._ledger.close(run_id, epoch, [report.slot for report in kept])
        for row in rows:
            await self._note(fan_out, row)

    async def _note(self, fan_out: OpenFanOut, row: SlotRow) -> None:
        report = row.report
        if row.is_contribution:
            is_new = fan_out.done(report.slot)
            fan_out.failed_count += is_new and report.error is not None
            return
        fan_out.outstanding.pop(report.slot.index, None)
        if report.error is not None and not fan_out.is_stopping:
            await self._stop(fan_out, report)

    async def _stop(self, fan_out: OpenFanOut, report: Report) -> None:
        """Under `fail_fast`: nothing new starts, what runs is told, and what ends meanwhile is still recorded."""
        fan_out.failure = report
        fan_out.gives_up_at = time.monotonic() + 2 * self._options.heartbeat.total_seconds()
        await self._ledger.cancel(self._ownership.run_id, self._ownership.epoch, fan_out=fan_out.id)
        await self._dispatcher.cancel(fan_out.id)
        await self._await_only_started(fan_out)

    async def _await_only_started(self, fan_out: OpenFanOut) -> None:
        live = await self._ledger.live(self._ownership.run_id, fan_out.id)
        fan_out.outstanding = {one.slot.index: one.slot for one in live if one.state is not LiveState.QUEUED}

    async def _sweep(self) -> None:
        for fan_out in self.open:
            if fan_out.is_stopping:
                await self._await_only_started(fan_out)
            else:
                for report in await self._sweeper.sweep(fan_out):
                    self._reported[report.slot] = report

    def _settle(self) -> None:
        """Resolve the fan-outs that have come to their end."""
        for fan_out in self.open:
            if fan_out.ended.done():
                continue
            if fan_out.failure is not None and fan_out.failure.error is not None:
                if not fan_out.outstanding or time.monotonic() >= (fan_out.gives_up_at or 0):
                    fan_out.ended.set_exception(RemoteError(fan_out.failure.error))
            elif fan_out.is_complete:
                fan_out.ended.set_result(None)

    def _start_over(self) -> None:
        for fan_out in self.open:
            fan_out.is_announced = False
            fan_out.start_over()

    async def _wait_out(self, error: OperatorError, failures: int) -> None:
        log.warning("waiting for a service", extra={"run_id": self._ownership.run_id, "reason": str(error)})
        await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
        if isinstance(error, LedgerUnavailable):
            # Leases may have ended while no worker could extend them: give the living one lease's time to do so.
            self._sweep_at = time.monotonic() + self._options.instance_lease.total_seconds()

    def _abandon(self, error: Exception) -> None:
        for fan_out in self.open:
            if not fan_out.ended.done():
                fan_out.ended.set_exception(error)
        if not isinstance(error, Fenced):
            log.error("recorder stopped", exc_info=error, extra={"run_id": self._ownership.run_id})
