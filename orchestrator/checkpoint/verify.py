"""The proof that a run's record adds up: count the slots, fold them again, compare with what fan-in kept."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.excuse import Excuses
from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.checkpoint.row import FanOutRow, Loss, Step, Tally
from orchestrator.fan_out.entry import ITEM_HASH_BYTES
from orchestrator.fan_out.fold import FoldHash
from orchestrator.report import Outcome, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutVerification:
    """What was counted of one fan-out.

    `expected` is the number of its instances, `recorded` how many of them have a contribution, `missing` how many
    have none, `duplicates` how many contributions stand beside the first of their index, or at an index that the
    fan-out does not have. `executions` is how often its instances are known to have been handed to a worker: of each
    slot the larger of its delivery count and of one more than its lost deliveries. `problems` say what does not
    add up, in sentences; a fan-out that was entered anew is `superseded`, and owes nothing.
    """

    row: FanOutRow
    recorded: int
    succeeded: int
    failed: int
    duplicates: int
    executions: int
    superseded: bool
    problems: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        return self.row.instance_count - self.recorded

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        key = self.row.key
        return {
            "node": key.path,
            "lineage": [{"node": "/".join((*s.namespace, s.node)), "fan_out_index": s.index} for s in key.lineage],
            "visit": key.visit,
            "expected": self.row.instance_count,
            "recorded": self.recorded,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "missing": self.missing,
            "duplicates": self.duplicates,
            "executions": self.executions,
            "folded": self.row.fold is not None,
            "superseded": self.superseded,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """What was counted of a run; `ok` where everything adds up.

    `problems` are those of no fan-out that is there: one that a step folded is gone, or is not as the step has it.
    """

    run_id: str
    fan_outs: tuple[FanOutVerification, ...]
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems and all(fan_out.ok for fan_out in self.fan_outs)

    def to_json(self) -> dict[str, Any]:
        fan_outs = [fan_out.to_json() for fan_out in self.fan_outs]
        told = {"schema_version": 1, "run_id": self.run_id, "ok": self.ok}
        return {**told, "fan_outs": fan_outs, "problems": list(self.problems)}


async def verify(reader: RecordReader, run_id: str, *, has_succeeded: bool = False) -> Verification:
    """Count what is recorded of a run and compare it with what fan-in kept; nothing is written.

    A fan-out that is not folded adds up when all of its instances are recorded and the run goes on still. See `Excuses`
    for those that owe nothing.
    """
    rows, steps = await reader.fan_outs(run_id), await reader.steps(run_id)
    excuses = Excuses(rows, steps)
    verified = []
    for row in sorted(rows, key=lambda row: len(row.key.lineage)):
        count = await _count(reader, run_id, row)
        superseded = excuses.excuse(row, count.seen)
        problems = [] if superseded else list(_damage(row, count, is_fold_due=has_succeeded))
        problems.extend(_tally_damage(await reader.tally(run_id, row.id), count))
        verified.append(_verification(row, count, superseded=superseded, problems=tuple(problems)))
    order = {row.id: position for position, row in enumerate(rows)}
    return Verification(
        run_id,
        tuple(sorted(verified, key=lambda fan_out: order[fan_out.row.id])),
        tuple(_step_damage(steps, rows)),
    )


@dataclass(slots=True)
class _Count:
    seen: Bitmap
    hash: FoldHash = field(default_factory=FoldHash)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    duplicates: int = 0
    executions: int = 0

    def add(self, report: Report, losses: int) -> None:
        index = report.slot.index
        if not 0 <= index < self.seen.size or not self.seen.add(index):
            self.duplicates += 1
            return
        self.hash.add(index, report.hash)
        self.outcomes[report.outcome] += 1
        self.executions += max(report.delivery, losses + (report.outcome is not Outcome.LOST))


async def _count(reader: RecordReader, run_id: str, row: FanOutRow) -> _Count:
    count = _Count(Bitmap(row.instance_count))
    losses = Counter(loss.slot.index for loss in _latest_generation(await reader.losses(run_id, row.id)))
    async for slot in reader.slots(run_id, row.id):
        count.add(slot.report, losses.pop(slot.report.slot.index, 0))
    async for slot in reader.errors(run_id, row.id):
        count.executions += max(slot.report.delivery, losses.pop(slot.report.slot.index, 0) + 1)
    count.executions += losses.total()
    return count


def _verification(row: FanOutRow, count: _Count, *, superseded: bool, problems: tuple[str, ...]) -> FanOutVerification:
    recorded, succeeded = len(count.seen), count.outcomes[Outcome.SUCCEEDED]
    return FanOutVerification(
        row=row,
        recorded=recorded,
        succeeded=succeeded,
        failed=recorded - succeeded,
        duplicates=count.duplicates,
        executions=count.executions,
        superseded=superseded,
        problems=problems,
    )


def _step_damage(steps: Sequence[Step], rows: Sequence[FanOutRow]) -> Iterator[str]:
    """What the steps say was folded is kept twice: with the step, and with the fan-out."""
    kept = {row.id: row.fold for row in rows}
    for step in steps:
        for fold in step.folds:
            place = f"step {step.position} (node {'/'.join((*step.namespace, step.node))})"
            if fold.fan_out not in kept:
                yield f"{place} folded {fold.count} contributions of a fan-out that is not kept any more"
            elif kept[fold.fan_out] != fold:
                yield f"{place} folded something else than its fan-out keeps"


def _tally_damage(tally: Tally, count: _Count) -> Iterator[str]:
    there = len(count.seen) + count.duplicates
    if tally.recorded != there:
        yield f"the store's tally says {tally.recorded} are recorded, {there} are there"


def _damage(row: FanOutRow, count: _Count, *, is_fold_due: bool) -> Iterator[str]:
    recorded, expected = len(count.seen), row.instance_count
    if recorded < expected:
        yield f"{expected - recorded} of {expected} instances are not recorded"
    if count.duplicates:
        yield f"{count.duplicates} contributions are one too many"
    if len(row.item_hashes) != ITEM_HASH_BYTES * expected:
        yield f"{len(row.item_hashes) // ITEM_HASH_BYTES} items were kept for {expected} instances"
    if row.fold is None:
        if is_fold_due:
            yield "the run has succeeded, and what fan-in folded is not kept"
    elif row.fold.count != recorded:
        yield f"fan-in folded {row.fold.count} contributions, {recorded} are recorded"
    elif row.fold.hash != count.hash.text:
        yield "the contributions that are recorded are not those that fan-in folded"


def _latest_generation(losses: list[Loss]) -> list[Loss]:
    latest: dict[int, int] = {}
    for loss in losses:
        latest[loss.slot.index] = max(latest.get(loss.slot.index, 0), loss.slot.generation)
    return [loss for loss in losses if loss.slot.generation == latest[loss.slot.index]]
