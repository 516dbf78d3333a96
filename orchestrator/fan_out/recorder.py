"""The loop between the ledger and the record: what is reported is recorded, closed, and makes room for more."""

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Sequence

from orchestrator.checkpoint.protocol import Checkpointer
from orchestrator.checkpoint.row import Ownership, SlotRow
from orchestrator.crashpoint import crashpoint
from orchestrator.errors import Fenced, LedgerLost, LedgerUnavailable, OperatorError
from orchestrator.execution.cancelling import ended
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.patience import pause
from orchestrator.fan_out.dispatch import Dispatcher
from orchestrator.fan_out.entry import told_with
from orchestrator.fan_out.inner import InnerRecords
from orchestrator.fan_out.pace import Pace
from orchestrator.fan_out.policy import Meaning, meaning
from orchestrator.fan_out.pressure import Pressure
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.stopping import Stopper
from orchestrator.fan_out.sweeping import Sweeper
from orchestrator.identity import Slot
from orchestrator.report import Report

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
LINGER_SECONDS = 0.02
LINGER_FROM = 8
"""So many more reports are worth a short wait: it saves commits, and the workers have enough to do meanwhile."""


class Recorder:
    """Records the reports of one invocation's fan-outs in one lane, and keeps their windows full.

    `health` says in a sentence what keeps it from its work, or is None. `is_left` says that the invocation is given up
    for another to take the run: what it has started goes on.
    """

    def __init__(
        self,
        lane: Lane,
        checkpointer: Checkpointer,
        ownership: Ownership,
        options: Options,
        *,
        inner: InnerRecords,
        created_at: str,
        is_left: Callable[[], bool],
    ) -> None:
        self.health: str | None = None
        self._ledger = lane.ledger
        self._checkpointer = checkpointer
        self._ownership = ownership
        self._options = options
        self._open: dict[str, OpenFanOut] = {}
        self._reported: dict[Slot, Report] = {}
        self._inner = inner
        self._created_at = created_at
        self._is_left = is_left
        self._pressure = Pressure(lane.ledger, ownership.run_id)
        self._dispatcher = Dispatcher(lane, ownership, options, inner=inner, pressure=self._pressure)
        self._sweeper = Sweeper(lane, checkpointer, ownership, options)
        self._stopper = Stopper(lane, ownership, options)
        # Of the run, and not of whichever fan-out comes first: instances and messages of all of them are begun in it.
        self._context = contextvars.copy_context()
        self._loop: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[list[Report]] | None = None
        self._unheard: set[asyncio.Task[list[Report]]] = set()
        self._kicked = asyncio.Event()
        self._acting = asyncio.Lock()
        self._pace = Pace()
        self._sweep_at = 0.0
        self._held_until = 0.0

    async def complete(self, fan_out: OpenFanOut) -> None:
        """Bring a fan-out to its end.

        Raises:
            RemoteError: under `fail_fast`, why its first failed instance failed.
            Fenced: another orchestrator owns the run.
        """
        if fan_out.is_complete:
            return
        crashpoint("before_dispatch")
        self._open[fan_out.id] = fan_out
        self._kicked.set()
        if self._loop is None or self._loop.done():
            name = f"recorder-{self._ownership.run_id}"
            self._loop = asyncio.create_task(self._run(), name=name, context=self._context.copy())
        try:
            await fan_out.ended
        except asyncio.CancelledError:
            await self._give_up(fan_out)
            raise
        finally:
            self._forget(fan_out)

    async def keep_inside(self, slot: Slot, entries: Sequence[bytes]) -> bool:
        """Record what an instance tells that runs in this very process; false where nobody wants it any more."""
        fan_out = self._open.get(slot.fan_out)
        if fan_out is not None:
            await self._inner.keep(fan_out, slot, entries)
        return fan_out is not None

    async def close(self) -> None:
        """Stop; what is outstanding stays in the ledger."""
        await ended(self._loop)
        await ended(self._listening, *self._unheard)

    async def _run(self) -> None:
        failures = 0
        while self._open:
            try:
                await self._turn()
                failures, self.health = 0, self._pressure.health or self._dispatcher.health
            except LedgerLost:
                log.warning("ledger lost, opening it again from the record", extra={"run_id": self._ownership.run_id})
                for fan_out in self._fan_outs():
                    fan_out.start_over()
                self._kicked.set()
            except OperatorError as error:
                self.health = f"dispatch paused: {error}"
                await self._wait_out(error, failures)
                failures += 1
            except Exception as error:  # noqa: BLE001 - it ends every fan-out here, with this very reason
                self._abandon(error)
                return

    async def _turn(self) -> None:
        """What has come in is kept before anything new goes out."""
        for fan_out in self._fan_outs():
            await self._announce(fan_out)
        news = await self._news()
        async with self._acting:
            await self._act_on(news)

    async def _act_on(self, news: Sequence[Report]) -> None:
        for report in news:
            # One that was given up while it was listened to has nobody who would record it.
            if report.slot.fan_out in self._open:
                self._reported[report.slot] = report
        for fan_out in self._fan_outs():
            await self._record(fan_out)
            await self._stopper.stop(fan_out)
        if asyncio.get_running_loop().time() >= self._sweep_at:
            self._sweep_at = asyncio.get_running_loop().time() + SWEEP_SECONDS
            await self._sweep()
        self._pressure.begin(sum(sum(fan_out.sizes.values()) for fan_out in self._fan_outs()))
        for fan_out in self._fan_outs():
            self._stopper.settle(fan_out)
            await self._dispatcher.fill(fan_out)
            fan_out.measured.outstanding(len(fan_out.outstanding))

    async def _announce(self, fan_out: OpenFanOut) -> None:
        if not fan_out.is_announced:
            await self._ledger.open(self._ownership.run_id, self._ownership.epoch, fan_out.opening(self._created_at))
            fan_out.announced(await self._ledger.live(self._ownership.run_id, fan_out.id))
            # One that was opened in the middle of a turn is filled in this one, before anything is waited for.
            self._kicked.set()

    async def _news(self) -> list[Report]:
        """Wait for reports, for a new fan-out, or until it is time to sweep."""
        if self._listening is None:
            await self._linger()
            waiting = self._ledger.reports(self._ownership.run_id, tuple(self._open), wait_seconds=SWEEP_SECONDS)
            self._listening = asyncio.create_task(waiting)
        kicked = asyncio.create_task(self._kicked.wait())
        try:
            await asyncio.wait({self._listening, kicked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            kicked.cancel()
        if self._kicked.is_set():
            # It was asked of other fan-outs than those that are open now.
            self._kicked.clear()
            return await self._heard() if self._listening.done() else self._not_listening()
        return await self._heard()

    async def _heard(self) -> list[Report]:
        assert self._listening is not None
        heard, self._listening = self._listening, None
        reports = await heard
        self._pace.note(len(reports), asyncio.get_running_loop().time())
        if not reports:
            # Waiting has ended without any: something lapsed or was declined, or it is time anyway.
            self._sweep_at = self._held_until
        return reports

    def _not_listening(self) -> list[Report]:
        assert self._listening is not None
        dropped, self._listening = self._listening, None
        # An answer that is just coming in can keep the task from seeing that it was cancelled.
        self._unheard.add(dropped)
        dropped.add_done_callback(self._drop)
        dropped.cancel()
        return []

    def _drop(self, task: asyncio.Task[list[Report]]) -> None:
        self._unheard.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("listened in vain", exc_info=task.exception(), extra={"run_id": self._ownership.run_id})

    async def _linger(self) -> None:
        """Wait a little where that brings enough reports, and leaves the workers half of the window at least."""
        coming = self._pace.note(0, asyncio.get_running_loop().time()) * LINGER_SECONDS
        outstanding = sum(len(fan_out.outstanding) for fan_out in self._fan_outs())
        if LINGER_FROM <= coming <= outstanding / 2:
            await asyncio.sleep(LINGER_SECONDS)

    async def _record(self, fan_out: OpenFanOut) -> None:
        """Commit what is reported, then close it: nothing leaves the ledger before the record has it."""
        mine = [report for report in self._reported.values() if report.slot.fan_out == fan_out.id]
        reports = sorted(mine, key=lambda report: report.slot.index)
        fan_out.measured.reported(len(reports))
        await self._inner.take(fan_out, [report.slot for report in reports if fan_out.may_have_told(report)])
        rows = await self._rows(fan_out, [report for report in reports if not fan_out.has(report.slot)])
        began = time.perf_counter()
        if rows:
            crashpoint("after_reports_before_commit")
            await self._checkpointer.record(self._ownership, [row.as_kept for row in rows])
            crashpoint("after_commit_before_close")
        fan_out.measured.recorded(rows, time.perf_counter() - began)
        # Before anything can fail again: what is committed must not be taken for missing.
        for row in rows:
            fan_out.note(row)
        for report in reports:
            # The fan-out may have been given up while its reports were committed.
            self._reported.pop(report.slot, None)
        if fan_out.unclosed:
            slots = tuple(fan_out.unclosed.values())
            await self._ledger.close(self._ownership.run_id, self._ownership.epoch, slots)
            crashpoint("during_close")
            fan_out.unclosed.clear()

    async def _rows(self, fan_out: OpenFanOut, reports: Sequence[Report]) -> list[SlotRow]:
        """The rows that reports come to; the others' instances run again."""
        means = {report.slot: await self._meaning(fan_out, report) for report in reports}
        leftovers = [slot for slot, what in means.items() if what is Meaning.LEFTOVER]
        if leftovers:
            await self._ledger.reset(self._ownership.run_id, self._ownership.epoch, leftovers)
            fan_out.bring_back(leftovers)
        return [
            SlotRow(report, means[report.slot] is Meaning.CONTRIBUTION, fan_out.plan.item_key(report.slot.index))
            for report in reports
            if means[report.slot] is not Meaning.LEFTOVER
        ]

    async def _meaning(self, fan_out: OpenFanOut, report: Report) -> Meaning:
        if await self._inner.bears_out(fan_out, report):
            return meaning(fan_out.plan.node, report, self._ownership.invocation_id)
        told = {"run_id": self._ownership.run_id, "node": fan_out.plan.key.path, "index": report.slot.index}
        log.warning("the ledger lost what an instance had told: it runs again", extra=told)
        return Meaning.LEFTOVER

    async def _sweep(self) -> None:
        await self._pressure.measure(tuple(self._open))
        for fan_out in self._fan_outs():
            await self._inner.take(fan_out, fan_out.outstanding.values())
            if fan_out.failure is not None:
                await self._stopper.await_only_started(fan_out)
            else:
                for report in await self._sweeper.sweep(fan_out):
                    self._reported[report.slot] = report
                await self._record(fan_out)
            if fan_out.measured.is_wanted:
                fan_out.measured.seen(await self._ledger.live(self._ownership.run_id, fan_out.id))

    async def _wait_out(self, error: OperatorError, failures: int) -> None:
        log.warning("waiting for a service", extra={"run_id": self._ownership.run_id, "reason": str(error)})
        await pause(failures)
        self._kicked.set()
        if isinstance(error, LedgerUnavailable):
            # Leases may have ended while no worker could extend them: give the living one lease's time to do so.
            self._held_until = asyncio.get_running_loop().time() + self._options.instance_lease.total_seconds()
            self._sweep_at = self._held_until

    async def _give_up(self, fan_out: OpenFanOut) -> None:
        """Stop what runs of a fan-out that nobody waits for any more."""
        if self._is_left():
            return
        async with self._acting:
            with contextlib.suppress(OperatorError, LedgerLost, Fenced):
                await self._stopper.cancel(fan_out)
                await self._hear_out(fan_out)
            fan_out.stopped()

    async def _hear_out(self, fan_out: OpenFanOut) -> None:
        """Take note of what its instances have told by now: nothing of them is recorded any more."""
        await self._stopper.await_only_started(fan_out)
        await self._inner.take(fan_out, fan_out.outstanding.values())
        for report in await self._ledger.reports(self._ownership.run_id, (fan_out.id,), wait_seconds=0):
            fan_out.heard.happened(report.slot.index, told_with(report))

    def _forget(self, fan_out: OpenFanOut) -> None:
        self._open.pop(fan_out.id, None)
        fan_out.measured.ended()
        for slot in [slot for slot in self._reported if slot.fan_out == fan_out.id]:
            del self._reported[slot]

    def _abandon(self, error: Exception) -> None:
        for fan_out in self._fan_outs():
            if not fan_out.ended.done():
                fan_out.ended.set_exception(error)
        if not isinstance(error, Fenced):
            log.error("recorder stopped", exc_info=error, extra={"run_id": self._ownership.run_id})

    def _fan_outs(self) -> tuple[OpenFanOut, ...]:
        return tuple(self._open.values())
