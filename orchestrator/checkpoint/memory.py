"""A checkpoint store in this process's memory."""

import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from orchestrator.checkpoint.compose import RecordRows, compose, decompose
from orchestrator.checkpoint.protocol import RunIsOver
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import (
    FanOutRow,
    InnerRows,
    Loss,
    NewRun,
    Ownership,
    Renewal,
    Run,
    RunFilter,
    RunOrder,
    RunStatus,
    Seen,
    SlotRow,
    Step,
    Tally,
)
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointNotFound, Fenced, RunAmbiguous, RunExists, RunIsDriven
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import Slot
from orchestrator.report import Outcome


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _SlotTable:
    """Rows of one kind by fan-out, index and generation."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, dict[int, SlotRow]]] = defaultdict(lambda: defaultdict(dict))

    def keep(self, row: SlotRow) -> None:
        slot = row.report.slot
        self._rows[slot.fan_out][slot.index][slot.generation] = row

    def keep_first(self, row: SlotRow) -> bool:
        slot = row.report.slot
        return self._rows[slot.fan_out][slot.index].setdefault(slot.generation, row) is row

    def latest(self, fan_out: str, *, start: int = 0, stop: int | None = None) -> list[SlotRow]:
        """Each slot's row of the latest generation, in index order."""
        rows = self._rows.get(fan_out, {})
        indexes = sorted(index for index in rows if index >= start and (stop is None or index < stop))
        return [rows[index][max(rows[index])] for index in indexes]

    def all(self, fan_out: str) -> Iterable[SlotRow]:
        return (row for generations in self._rows.get(fan_out, {}).values() for row in generations.values())

    def generation(self, fan_out: str, index: int) -> int:
        """The latest generation of a slot; -1 where there is none."""
        return max(self._rows.get(fan_out, {}).get(index, (-1,)))


@dataclass
class _Kept:
    """Everything of one run."""

    run: Run
    invocations: set[str]
    steps: dict[int, Step] = field(default_factory=dict)
    fan_outs: dict[str, FanOutRow] = field(default_factory=dict)
    slots: _SlotTable = field(default_factory=_SlotTable)
    errors: _SlotTable = field(default_factory=_SlotTable)
    losses: dict[tuple[Slot, int], Loss] = field(default_factory=dict)

    def keep(self, row: SlotRow) -> bool:
        """Keep a row; true where it is the first contribution of its slot."""
        if not row.is_contribution:
            self.errors.keep(row)
            return False
        is_first = self.slots.keep_first(row)
        if is_first:
            self.set_folds(row.report.folds)
        return is_first

    def set_folds(self, folds: Iterable[Fold]) -> None:
        for fold in folds:
            if fold.fan_out in self.fan_outs:
                self.fan_outs[fold.fan_out] = replace(self.fan_outs[fold.fan_out], fold=fold)

    def open_errors(self, fan_out: str) -> list[SlotRow]:
        return [
            row
            for row in self.errors.latest(fan_out)
            if self.slots.generation(fan_out, row.report.slot.index) < row.report.slot.generation
        ]

    def ordered_steps(self) -> list[Step]:
        return [self.steps[position] for position in sorted(self.steps)]

    def charged(self, slot: Slot) -> int:
        return sum(loss.is_charged for loss in self.losses.values() if loss.slot == slot)

    def tally(self, fan_out: str) -> Tally:
        latest = self.slots.latest(fan_out)
        counts = {outcome.value: 0 for outcome in Outcome}
        for row in latest:
            counts[row.report.outcome.value] += 1
        times = [row.recorded_at for row in self.slots.all(fan_out) if row.recorded_at is not None]
        return Tally(
            fan_out=fan_out,
            **counts,
            deliveries=sum(row.report.delivery for row in latest),
            losses=sum(loss.slot.fan_out == fan_out for loss in self.losses.values()),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
        )


class MemoryStore:
    """A `CheckpointStore` that lives as long as the object does.

    It may be used from any number of threads and event loops at once. `clock` gives the time, aware.
    """

    def __init__(self, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._runs: dict[str, _Kept] = {}

    async def create(self, run: NewRun) -> Run:
        with self._lock:
            before = self._runs.get(run.run_id)
            if before is not None:
                if run.is_kept_as(before.run, before.steps[0].state):
                    return before.run
                raise RunExists(run.run_id)
            now = self._clock()
            kept = Run(
                run_id=run.run_id,
                graph=run.graph,
                fingerprint=run.fingerprint,
                correlation_id=run.correlation_id,
                status=RunStatus.SUBMITTED,
                epoch=0,
                invocation_id=run.run_id,
                created_at=now,
                schema_version=run.schema_version,
                code_version=run.code_version,
                metadata=dict(run.metadata),
            )
            first = Step(
                position=0,
                namespace=(),
                node="",
                state=run.state,
                invocation_id=run.run_id,
                schema_version=run.schema_version,
                saved_at=now,
            )
            self._runs[run.run_id] = _Kept(kept, {run.run_id}, {0: first})
            return kept

    async def acquire(
        self,
        run_id: str,
        owner: str,
        *,
        invocation_id: str,
        lease: timedelta,
        seen: Seen | None = None,
        fingerprint: str | None = None,
    ) -> Ownership:
        with self._lock:
            kept = self._kept(run_id)
            run = kept.run
            if run.status.is_over:
                raise RunIsOver(run_id, run.status)
            is_ours_already = (run.owner, run.invocation_id) == (owner, invocation_id)
            if not is_ours_already and not self._may_be_taken(run, seen or Seen(run.epoch)):
                raise RunIsDriven(run_id, run.owner or "another process")
            kept.run = replace(
                run,
                status=RunStatus.RUNNING,
                epoch=run.epoch + 1,
                owner=owner,
                lease_until=self._clock() + lease,
                invocation_id=invocation_id,
                is_cancel_requested=run.is_cancel_requested and run.status is not RunStatus.FAILED,
                fingerprint=fingerprint or run.fingerprint,
                ended_at=None,
                error=None,
                health=None,
            )
            kept.invocations.add(invocation_id)
            return Ownership(run_id, invocation_id, kept.run.epoch)

    async def renew(self, ownership: Ownership, *, lease: timedelta, health: str | None = None) -> Renewal:
        with self._lock:
            kept = self._owned(ownership)
            if kept.run.status is RunStatus.RUNNING:
                kept.run = replace(kept.run, lease_until=self._clock() + lease, health=health)
            return Renewal(is_cancel_requested=kept.run.is_cancel_requested)

    async def finish(self, ownership: Ownership, status: RunStatus, *, error: ErrorRecord | None = None) -> None:
        with self._lock:
            kept = self._owned(ownership)
            if kept.run.status is RunStatus.RUNNING:
                now = self._clock()
                ended_at = now if status.has_ended else None
                kept.run = replace(
                    kept.run, status=status, error=error, ended_at=ended_at, lease_until=now, health=None
                )

    async def find(self, run_id: str) -> Run:
        with self._lock:
            if run_id in self._runs:
                return self._seen(self._runs[run_id].run)
            for kept in reversed(self._runs.values()):
                if run_id in kept.invocations:
                    return self._seen(kept.run)
            matches = sorted(kept for kept in self._runs if run_id and kept.startswith(run_id))
            if not matches:
                raise CheckpointNotFound(run_id)
            if len(matches) > 1:
                raise RunAmbiguous(run_id, tuple(matches))
            return self._seen(self._runs[matches[0]].run)

    async def list_runs(self, which: RunFilter) -> list[Run]:
        with self._lock:
            wanted = [run for run in map(self._seen, (kept.run for kept in self._runs.values())) if which.wants(run)]
            if which.order is RunOrder.NEWEST:
                by_age = sorted(wanted, key=lambda run: run.created_at)
                return by_age[::-1][: which.limit]
            return sorted(wanted, key=which.mark_of)[: which.limit]

    async def request_cancel(self, run_id: str) -> Run:
        with self._lock:
            kept = self._kept(run_id)
            run = kept.run
            if not run.status.is_over:
                kept.run = replace(run, is_cancel_requested=True)
                if not self._is_driven(run):
                    kept.run = self._cancelled(kept.run)
            return self._seen(kept.run)

    async def delete(self, run_id: str) -> None:
        with self._lock:
            self._runs.pop(run_id, None)

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        with self._lock:
            kept = self._owned(ownership)
            if step.position in kept.steps:
                return
            invocation_id = step.invocation_id or ownership.invocation_id
            kept.steps[step.position] = replace(step, invocation_id=invocation_id, saved_at=self._clock())
            kept.set_folds(step.folds)

    async def open_fan_out(self, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        with self._lock:
            kept = self._owned(ownership)
            return kept.fan_outs.setdefault(row.id, replace(row, opened_at=self._clock(), fold=None))

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        with self._lock:
            kept = self._owned(ownership)
            now = self._clock()
            first = 0
            for row in rows:
                first += kept.keep(replace(row, recorded_at=now))
            return first

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        with self._lock:
            for row in inner.fan_outs:
                await self.open_fan_out(ownership, row)
            for step in inner.steps:
                await self.save_step(ownership, step)
            await self.record(ownership, inner.slots)

    async def record_losses(self, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        with self._lock:
            kept = self._owned(ownership)
            for loss in losses:
                kept.losses.setdefault((loss.slot, loss.delivery), loss)
            return {loss.slot: kept.charged(loss.slot) for loss in losses}

    async def load(self, run_id: str) -> CheckpointRecord | None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None:
                return None
            open_ones = [row.id for row in kept.fan_outs.values() if row.fold is None]
            return compose(
                RecordRows(
                    run=kept.run,
                    steps=kept.ordered_steps(),
                    fan_outs=list(kept.fan_outs.values()),
                    slots=[row for fan_out in open_ones for row in kept.slots.latest(fan_out)],
                    errors=[row for fan_out in open_ones for row in kept.open_errors(fan_out)],
                )
            )

    async def seed(self, record: CheckpointRecord) -> None:
        rows = decompose(record)
        with self._lock:
            if record.run_id in self._runs:
                raise RunExists(record.run_id)
            kept = _Kept(rows.run, {record.run_id, record.invocation_id})
            kept.steps = {step.position: step for step in rows.steps}
            kept.fan_outs = {row.id: row for row in rows.fan_outs}
            for row in (*rows.slots, *rows.errors):
                kept.keep(row)
            self._runs[record.run_id] = kept

    async def steps(self, run_id: str) -> list[Step]:
        with self._lock:
            return self._runs[run_id].ordered_steps() if run_id in self._runs else []

    async def fan_outs(self, run_id: str) -> list[FanOutRow]:
        with self._lock:
            return list(self._runs[run_id].fan_outs.values()) if run_id in self._runs else []

    async def slots(
        self, run_id: str, fan_out: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[SlotRow]:
        with self._lock:
            kept = self._runs.get(run_id)
            rows = [] if kept is None else kept.slots.latest(fan_out, start=start, stop=stop)
        for row in rows:
            yield row

    async def errors(self, run_id: str, fan_out: str) -> AsyncIterator[SlotRow]:
        with self._lock:
            kept = self._runs.get(run_id)
            rows = [] if kept is None else kept.open_errors(fan_out)
        for row in rows:
            yield row

    async def tally(self, run_id: str, fan_out: str) -> Tally:
        with self._lock:
            kept = self._runs.get(run_id)
            return Tally(fan_out=fan_out) if kept is None else kept.tally(fan_out)

    async def losses(self, run_id: str, fan_out: str) -> list[Loss]:
        with self._lock:
            kept = self._runs.get(run_id)
            rows = [] if kept is None else [loss for loss in kept.losses.values() if loss.slot.fan_out == fan_out]
        return sorted(rows, key=lambda loss: (loss.slot.index, loss.slot.generation, loss.delivery))

    async def close(self) -> None:
        """Nothing is held that would have to be let go."""

    def _kept(self, run_id: str) -> _Kept:
        if run_id not in self._runs:
            raise CheckpointNotFound(run_id)
        return self._runs[run_id]

    def _owned(self, ownership: Ownership) -> _Kept:
        kept = self._runs.get(ownership.run_id)
        if kept is None or kept.run.epoch != ownership.epoch:
            raise Fenced(ownership.run_id, ownership.epoch)
        return kept

    def _may_be_taken(self, run: Run, seen: Seen) -> bool:
        return run.epoch == seen.epoch and (seen.has_dead_owner or not self._is_driven(run))

    def _is_driven(self, run: Run) -> bool:
        return run.status is RunStatus.RUNNING and run.lease_until is not None and run.lease_until > self._clock()

    def _seen(self, run: Run) -> Run:
        if run.status is RunStatus.RUNNING and not self._is_driven(run):
            return replace(run, status=RunStatus.ORPHANED)
        return run

    def _cancelled(self, run: Run) -> Run:
        # The epoch rises where an owner may only be late, so that it cannot go on with a run that is over.
        epoch = run.epoch + 1 if run.status is RunStatus.RUNNING else run.epoch
        now = self._clock()
        return replace(run, status=RunStatus.CANCELLED, epoch=epoch, ended_at=now, error=None, health=None)
