"""The ledger of one process, for the local executor and for tests."""

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from orchestrator.errors import Fenced, LedgerLost
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Beat, ClaimAnswer, Claimed, Held, Reported, Verdict
from orchestrator.ledger.entry import Entry, FanOutEntries, RunEntries, Stage
from orchestrator.ledger.owner import place_of
from orchestrator.ledger.sweeping import sweep
from orchestrator.ledger.view import LiveInstance, Opening, Progress, QueueAnswer, QueuedItem, Sweep, Usage
from orchestrator.report import DEFAULT_PAYLOAD_BYTES, Report

TOMBSTONE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """What is known of a run that was forgotten, until then."""

    epoch: int
    until: float
    created_at: str


class MemoryLedger:
    """Both ends of a ledger, its reader and the registry of workers, in the memory of this process.

    It may be called from any thread. `clock` gives seconds and never goes back; `max_bytes` limits a report's partial.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, max_bytes: int = DEFAULT_PAYLOAD_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._runs: dict[str, RunEntries] = {}
        self._tombstones: dict[str, _Tombstone] = {}
        self._runs_of_owner: dict[str, set[str]] = defaultdict(set)
        self._workers: dict[str, tuple[float, dict[str, object]]] = {}

    def claim(
        self,
        run_id: str,
        slots: Sequence[Slot],
        *,
        owner: str,
        token: str,
        ttl_seconds: float,
        in_company: bool = False,
    ) -> list[ClaimAnswer]:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                verdict = Verdict.DONE if self._is_forgotten(run_id) else Verdict.UNKNOWN
                return [ClaimAnswer(verdict) for _ in slots]
            self._runs_of_owner[owner].add(run_id)
            until = self._clock() + ttl_seconds
            answers = []
            for slot in slots:
                verdict = _verdict(run, slot, token)
                if verdict is Verdict.OK:
                    held = Held(slot, token)
                    claimed = _grant(run_id, run, held, owner, until=until, in_company=in_company)
                    answers.append(ClaimAnswer(verdict, claimed))
                else:
                    answers.append(ClaimAnswer(verdict))
            return answers

    def briefing(self, run_id: str, fan_out: str) -> bytes | None:
        with self._lock:
            kept = self._fan_out(run_id, fan_out)
            return kept.briefing if kept else None

    def beat(self, run_id: str, held: Sequence[Held], *, ttl_seconds: float, in_company: bool = False) -> list[Beat]:
        with self._lock:
            until = self._clock() + ttl_seconds
            return [self._beat(run_id, one, until, in_company=in_company) for one in held]

    def progress(self, run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        with self._lock:
            entry = self._held(run_id, held)
            if entry is None:
                return False
            entry.progress.extend(entries)
            self._runs[run_id].wake(held.slot.fan_out)
            return True

    def report(self, run_id: str, reports: Sequence[Report]) -> list[Reported]:
        with self._lock:
            return [self._report(run_id, report) for report in reports]

    def release(self, owner: str, *, has_died: bool) -> int:
        with self._lock:
            runs = [self._runs[run_id] for run_id in self._runs_of_owner.pop(owner, ()) if run_id in self._runs]
            return sum(_release(run, owner, has_died=has_died) for run in runs)

    def decline(self, run_id: str, slots: Sequence[Slot], *, worker: str, reason: str) -> None:
        with self._lock:
            for slot in slots:
                fan_out = self._fan_out(run_id, slot.fan_out)
                entry = fan_out.find(slot) if fan_out else None
                if entry is not None and entry.stage is Stage.QUEUED:
                    entry.declined = (worker, reason)
                    self._runs[run_id].wake(slot.fan_out)

    async def open(self, run_id: str, epoch: int, opening: Opening) -> None:
        with self._lock:
            run = self._own(run_id, epoch)
            run.created_at = opening.created_at
            fan_out = FanOutEntries(deepcopy(opening.recorded), opening.briefing, opening.briefing_hash)
            before = run.fan_outs.get(opening.fan_out)
            if before is not None:
                fan_out.take_over(before)
            run.fan_outs[opening.fan_out] = fan_out
            for fan_out_id, index in list(run.reported):
                if fan_out_id == opening.fan_out and index in opening.recorded:
                    del run.reported[fan_out_id, index]

    async def queue(
        self, run_id: str, epoch: int, items: Sequence[QueuedItem], *, claim_deadline_seconds: float
    ) -> list[QueueAnswer]:
        with self._lock:
            run = self._guard(run_id, epoch, (item.slot.fan_out for item in items))
            now = self._clock()
            return [_queue(run, item, now=now, until=now + claim_deadline_seconds) for item in items]

    async def reports(self, run_id: str, fan_outs: Collection[str], *, wait_seconds: float) -> list[Report]:
        future = asyncio.get_running_loop().create_future()
        wanted = frozenset(fan_outs)
        with self._lock:
            run = self._known(run_id)
            found = run.reports_of(wanted)
            if found or wait_seconds <= 0:
                return found
            run.waiting[future] = wanted
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await future
        finally:
            with self._lock:
                run.waiting.pop(future, None)
        with self._lock:
            return self._known(run_id).reports_of(wanted)

    async def close(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        with self._lock:
            run = self._guard(run_id, epoch, (slot.fan_out for slot in slots))
            for slot in slots:
                fan_out = run.fan_outs[slot.fan_out]
                if not fan_out.is_over(slot):
                    fan_out.close(slot)
                    run.reported.pop((slot.fan_out, slot.index), None)

    async def reset(self, run_id: str, epoch: int, slots: Sequence[Slot]) -> None:
        with self._lock:
            run = self._guard(run_id, epoch, (slot.fan_out for slot in slots))
            for slot in slots:
                _reset(run, slot)

    async def sweep(self, run_id: str, epoch: int, outstanding: Sequence[Slot]) -> Sweep:
        with self._lock:
            run = self._guard(run_id, epoch, (slot.fan_out for slot in outstanding))
            return sweep(run, outstanding, now=self._clock())

    async def cancel(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        with self._lock:
            if fan_out is None:
                self._guard(run_id, epoch, ()).cancelled_in = epoch
            else:
                self._guard(run_id, epoch, (fan_out,)).fan_outs[fan_out].cancelled_in = epoch

    async def forget(self, run_id: str, epoch: int, *, fan_out: str | None = None) -> None:
        """As promised; what is not there is forgotten already, so that it never raises LedgerLost."""
        with self._lock:
            self._fence(run_id, epoch)
            run = self._runs.get(run_id)
            if fan_out is None:
                self._bury(run_id, epoch)
            elif run is not None:
                run.fan_outs.pop(fan_out, None)
                for key in [key for key in run.reported if key[0] == fan_out]:
                    del run.reported[key]

    async def live(self, run_id: str, fan_out: str) -> list[LiveInstance]:
        with self._lock:
            kept = self._fan_out(run_id, fan_out)
            return kept.live(fan_out) if kept else []

    async def told(self, run_id: str, epoch: int, since: Mapping[Slot, int]) -> list[Progress]:
        with self._lock:
            self._fence(run_id, epoch)
            return [self._told(run_id, epoch, slot, start) for slot, start in since.items()]

    async def epoch(self, run_id: str) -> int:
        with self._lock:
            return self._epoch(run_id) or 0

    async def created_at(self, run_id: str) -> str:
        with self._lock:
            run, tombstone = self._runs.get(run_id), self._tombstone(run_id)
            return run.created_at if run is not None else tombstone.created_at if tombstone is not None else ""

    async def usage(self, run_id: str, fan_outs: Collection[str]) -> Usage:
        with self._lock:
            run = self._runs.get(run_id)
            reported = run.reported.items() if run is not None else ()
            return Usage(sum(len(report.partial or "") for (fan_out, _), report in reported if fan_out in fan_outs))

    def announce(self, worker: str, facts: Mapping[str, object], *, ttl_seconds: float) -> None:
        with self._lock:
            self._workers[worker] = (self._clock() + ttl_seconds, {**facts, "worker": worker})

    def withdraw(self, worker: str) -> None:
        with self._lock:
            self._workers.pop(worker, None)

    def workers(self) -> list[Mapping[str, object]]:
        with self._lock:
            now = self._clock()
            self._workers = {name: entry for name, entry in self._workers.items() if entry[0] > now}
            return [facts for _, (_, facts) in sorted(self._workers.items())]

    def owners(self, place: str) -> list[str]:
        with self._lock:
            return sorted(owner for owner in self._runs_of_owner if place_of(owner) == place)

    def _tombstone(self, run_id: str) -> "_Tombstone | None":
        """What is left of a run that was forgotten; None where it was not, or a day ago."""
        found = self._tombstones.get(run_id)
        return found if found is not None and found.until > self._clock() else None

    def _is_forgotten(self, run_id: str) -> bool:
        return self._tombstone(run_id) is not None

    def _epoch(self, run_id: str) -> int | None:
        known = self._runs.get(run_id) or self._tombstone(run_id)
        return None if known is None else known.epoch

    def _bury(self, run_id: str, epoch: int) -> None:
        now = self._clock()
        known = self._runs.pop(run_id, None)
        before = known or self._tombstone(run_id)
        self._tombstones = {run: one for run, one in self._tombstones.items() if one.until > now}
        created_at = "" if before is None else before.created_at
        self._tombstones[run_id] = _Tombstone(epoch, now + TOMBSTONE_SECONDS, created_at)
        if known is not None:
            known.wake()

    def _fence(self, run_id: str, epoch: int) -> None:
        stored = self._epoch(run_id)
        if stored is not None and stored > epoch:
            raise Fenced(run_id, epoch)

    def _known(self, run_id: str) -> RunEntries:
        run = self._runs.get(run_id)
        if run is None:
            raise LedgerLost(run_id)
        return run

    def _guard(self, run_id: str, epoch: int, fan_outs: Iterable[str]) -> RunEntries:
        self._fence(run_id, epoch)
        run = self._known(run_id)
        if run.epoch < epoch or any(fan_out not in run.fan_outs for fan_out in fan_outs):
            raise LedgerLost(run_id)
        return run

    def _own(self, run_id: str, epoch: int) -> RunEntries:
        self._fence(run_id, epoch)
        self._tombstones.pop(run_id, None)
        run = self._runs.setdefault(run_id, RunEntries(epoch))
        run.epoch = epoch
        return run

    def _fan_out(self, run_id: str, fan_out: str) -> FanOutEntries | None:
        run = self._runs.get(run_id)
        return run.fan_outs.get(fan_out) if run else None

    def _held(self, run_id: str, held: Held) -> Entry | None:
        fan_out = self._fan_out(run_id, held.slot.fan_out)
        entry = fan_out.find(held.slot) if fan_out else None
        return entry if entry is not None and entry.is_held_under(held.token) else None

    def _told(self, run_id: str, epoch: int, slot: Slot, start: int) -> Progress:
        fan_out = self._fan_out(run_id, slot.fan_out)
        entry = fan_out.find(slot) if fan_out else None
        return Progress(0, ()) if entry is None else entry.give(epoch, start)

    def _beat(self, run_id: str, held: Held, until: float, *, in_company: bool) -> Beat:
        entry = self._held(run_id, held)
        if entry is None:
            return Beat.CANCEL if self._is_forgotten(run_id) else Beat.LOST
        entry.extend(until, in_company=in_company)
        run = self._runs[run_id]
        return Beat.CANCEL if run.is_cancelled(run.fan_outs[held.slot.fan_out]) else Beat.OK

    def _report(self, run_id: str, report: Report) -> Reported:
        if report.is_larger_than(self._max_bytes):
            return Reported.TOO_LARGE
        fan_out = self._fan_out(run_id, report.slot.fan_out)
        entry = fan_out.find(report.slot) if fan_out else None
        if entry is None or entry.token != report.token or not entry.token:
            return Reported.OVER if self._is_forgotten(run_id) else Reported.STALE
        if entry.is_held_under(report.token):
            entry.stage = Stage.REPORTED
            run = self._runs[run_id]
            run.reported[report.slot.fan_out, report.slot.index] = report
            run.wake(report.slot.fan_out)
        return Reported.OK


def _verdict(run: RunEntries, slot: Slot, token: str) -> Verdict:
    fan_out = run.fan_outs.get(slot.fan_out)
    if fan_out is None:
        return Verdict.UNKNOWN
    entry = fan_out.find(slot)
    if entry is None or entry.stage is Stage.FREE:
        return Verdict.DONE if fan_out.is_over(slot) else Verdict.UNKNOWN
    if entry.stage is Stage.REPORTED:
        return Verdict.DONE
    is_running = entry.stage is Stage.RUNNING
    if is_running and entry.token == token:
        return Verdict.OK
    if run.is_cancelled(fan_out):
        return Verdict.CANCELLED
    # Also where the lease has ended: the loss must be seen by a sweep before another delivery covers it.
    return Verdict.BUSY if is_running else Verdict.OK


def _grant(run_id: str, run: RunEntries, held: Held, owner: str, *, until: float, in_company: bool) -> Claimed:
    slot, fan_out = held.slot, run.fan_outs[held.slot.fan_out]
    entry = fan_out.entries[slot.index]
    if entry.stage is Stage.QUEUED or entry.token != held.token:
        fan_out.last_claimed = max(fan_out.last_claimed, entry.order)
        entry.grant(held.token, owner, until=until, in_company=in_company)
    assert entry.queued is not None
    return Claimed(
        run_id=run_id,
        slot=slot,
        token=held.token,
        delivery=entry.delivery,
        item=entry.queued.item,
        briefing_hash=fan_out.briefing_hash,
        key=entry.queued.key,
        progress=(*entry.queued.progress, *entry.progress),
        tags=entry.queued.tags,
    )


def _release(run: RunEntries, owner: str, *, has_died: bool) -> int:
    count = 0
    for fan_out_id, fan_out in run.fan_outs.items():
        entries = fan_out.entries.values()
        held = [e for e in entries if e.owner == owner and e.stage is Stage.RUNNING and not e.is_released]
        for entry in held:
            entry.release(has_died=has_died)
        if held:
            run.wake(fan_out_id)
        count += len(held)
    return count


def _queue(run: RunEntries, item: QueuedItem, *, now: float, until: float) -> QueueAnswer:
    slot = item.slot
    fan_out = run.fan_outs[slot.fan_out]
    entry = fan_out.find(slot)
    if entry is None:
        if fan_out.is_over(slot):
            return QueueAnswer.DONE
        entry = _reset(run, slot)
    if entry.stage is Stage.REPORTED:
        return QueueAnswer.DONE
    if entry.stage is Stage.RUNNING and entry.until > now:
        return QueueAnswer.BUSY
    fan_out.last_order += 1
    entry.stage, entry.until, entry.order = Stage.QUEUED, until, fan_out.last_order
    entry.queued, entry.declined, entry.delivery = item, None, max(entry.delivery, item.deliveries)
    return QueueAnswer.OK


def _reset(run: RunEntries, slot: Slot) -> Entry:
    """Free the slot. Its deliveries count on, unless this is a new generation."""
    fan_out = run.fan_outs[slot.fan_out]
    before = fan_out.find(slot)
    entry = Entry(slot.generation, delivery=before.delivery if before else 0)
    fan_out.closed.discard(slot.index)
    fan_out.entries[slot.index] = entry
    run.reported.pop((slot.fan_out, slot.index), None)
    return entry
