"""Runs instances as tasks of this process's loop, through the same claim and report as a worker."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.capture.streams import listen
from orchestrator.context import Cancellation
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Capacity, Hint
from orchestrator.identity import Slot
from orchestrator.instance.reporting import never_begun, too_large
from orchestrator.instance.run import run_instance
from orchestrator.instance.runtime import Runtime
from orchestrator.ledger.claim import Claimed, Reported
from orchestrator.ledger.protocol import WorkerLedger
from orchestrator.observers.event import Phase


@dataclass(frozen=True, slots=True)
class Running:
    """An instance that runs here, and how it is told to stop."""

    run_id: str
    fan_out: str
    cancellation: Cancellation


class LocalExecutor:
    """An executor without workers: `slots` instances run at once on this loop, their leases never end."""

    def __init__(self, ledger: WorkerLedger, runtime: Runtime, *, slots: int = 64) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._slots = slots
        self._places = asyncio.Semaphore(slots)
        self._running: dict[asyncio.Task[None], Running] = {}
        self._briefings: dict[str, Briefing] = {}

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        by_run: dict[str, list[Slot]] = {}
        for hint in hints:
            by_run.setdefault(hint.run_id, []).append(Slot(hint.fan_out, hint.index, hint.generation))
        for run_id, slots in by_run.items():
            self._start(run_id, slots)

    async def capacity(self, graph: str, fingerprint: str) -> Capacity:
        return Capacity(self._slots, max(self._slots - len(self._running), 0))

    async def cancel(self, run_id: str, fan_out: str | None = None) -> None:
        for task, running in self._running.items():
            if running.run_id == run_id and fan_out in (None, running.fan_out):
                running.cancellation.request("the fan-out was stopped")
                task.cancel()

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, run_id: str, slots: Sequence[Slot]) -> None:
        token, worker = secrets.token_hex(16), self._runtime.worker
        answers = self._ledger.claim(run_id, slots, owner=worker, token=token, ttl_seconds=math.inf)
        for claimed in (answer.claimed for answer in answers if answer.claimed is not None):
            cancellation = Cancellation()
            task = asyncio.create_task(self._deliver(claimed, cancellation))
            self._running[task] = Running(run_id, claimed.slot.fan_out, cancellation)
            task.add_done_callback(self._running.pop)
            self._listen(claimed, task)

    async def _deliver(self, work: Claimed, cancellation: Cancellation) -> None:
        briefing = self._briefing(work)
        try:
            async with self._places:
                done = await run_instance(work, briefing, self._runtime, cancellation)
        except asyncio.CancelledError:
            if not cancellation.is_requested:
                raise
            done = never_begun(work, briefing, self._runtime)
        if self._ledger.report(work.run_id, [done]) == [Reported.TOO_LARGE]:
            self._ledger.report(work.run_id, [too_large(done, briefing.max_result_bytes)])

    def _listen(self, work: Claimed, task: asyncio.Task[None]) -> None:
        """Where its output is wanted, have the streams replaced once for all that wait beside it."""
        with contextlib.suppress(LookupError):
            if Phase.LOGGED in self._briefing(work).events_wanted:
                hush = listen(self._runtime.output.capture.level)
                task.add_done_callback(lambda _task: hush())

    def _briefing(self, work: Claimed) -> Briefing:
        known = self._briefings.get(work.briefing_hash)
        if known is not None:
            return known
        text = self._ledger.briefing(work.run_id, work.slot.fan_out)
        if text is None:
            raise LookupError(f"no briefing for fan-out {work.slot.fan_out} of run {work.run_id}")
        self._briefings = {work.briefing_hash: Briefing.from_json(text)}
        return self._briefings[work.briefing_hash]
