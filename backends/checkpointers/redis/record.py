"""What the owner of a run writes, in Redis."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from backends.checkpointers.redis.row import (
    fan_out_of,
    fan_out_parts,
    folds_text,
    loss_parts,
    slot_parts,
    step_text,
    to_number,
)
from backends.checkpointers.redis.space import RedisSpace
from backends.lua_script import script
from orchestrator.checkpoint.compose import RecordRows, decompose
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import FanOutRow, InnerRows, Loss, Ownership, SlotRow, Step
from orchestrator.errors import RunExists
from orchestrator.identity import Slot


class RedisRecord(RedisSpace):
    """What a `Checkpointer` writes."""

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        step = replace(step, invocation_id=step.invocation_id or ownership.invocation_id)
        await self._owned("save_step", ownership, "", step.position, step_text(step), folds_text(step.folds))

    async def open_fan_out(self, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        return fan_out_of(*await self._owned("open_fan_out", ownership, "", *fan_out_parts(row)))

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        first: int = await self._owned("record", ownership, "", *_flat(slot_parts(row) for row in rows))
        return first

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        # Not one transaction: each of these may be done again, and nothing of it is let go before all are done.
        for row in inner.fan_outs:
            await self.open_fan_out(ownership, row)
        for step in inner.steps:
            await self.save_step(ownership, step)
        if inner.slots:
            await self.record(ownership, inner.slots)

    async def record_losses(self, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        charged = await self._owned("record_losses", ownership, *_flat(loss_parts(loss) for loss in losses))
        return {loss.slot: count for loss, count in zip(losses, charged, strict=True)}

    async def seed(self, record: CheckpointRecord) -> None:
        rows = decompose(record)
        run = f"{self._keys.run(record.run_id)}run"

        async def keep(pipeline: Any) -> None:
            if await pipeline.exists(run):
                raise RunExists(record.run_id)
            pipeline.multi()
            for verb, arguments in _calls(rows):
                told = (self._keys.run(record.run_id), self._keys.index, 0, *arguments)
                lua = script(__package__, verb)
                # Nobody can be asked inside a transaction whether the server knows it.
                pipeline.script_load(lua.text)
                pipeline.evalsha(lua.sha, 2, *told)

        await self._asked(lambda client: client.transaction(keep, run))


def _calls(rows: RecordRows) -> list[tuple[str, list[Any]]]:
    """The scripts that make these rows, for a run whose epoch is still 0."""
    run, (first, *steps) = rows.run, rows.steps
    at = to_number(run.created_at)
    fields = ["graph", run.graph, "fingerprint", run.fingerprint, "correlation_id", run.correlation_id]
    fields += ["schema_version", run.schema_version]
    created = [run.run_id, run.invocation_id, at, step_text(first), *fields]
    return [
        ("create", created),
        *(("save_step", [at, step.position, step_text(step), folds_text(step.folds)]) for step in steps),
        *(("open_fan_out", [at, *fan_out_parts(row)]) for row in rows.fan_outs),
        ("record", [at, *_flat(slot_parts(row) for row in (*rows.slots, *rows.errors))]),
    ]


def _flat(parts: Iterable[Sequence[Any]]) -> list[Any]:
    return [part for row in parts for part in row]
