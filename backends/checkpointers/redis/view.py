"""What is read of a record, in Redis."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from redis.asyncio.client import Pipeline

from backends.checkpointers.redis.row import fan_out_of, loss_of, run_of, slot_of, step_of, tally_of, to_time
from backends.checkpointers.redis.space import RedisSpace
from orchestrator.checkpoint.compose import RecordRows, compose
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import FanOutRow, Loss, SlotRow, Step, Tally

_PIECE_ROWS = 256


class RedisView(RedisSpace):
    """What a `RecordReader` answers."""

    async def load(self, run_id: str) -> CheckpointRecord | None:
        run = self._keys.run(run_id)

        def fill(pipeline: Pipeline) -> None:
            pipeline.time()
            for part in ("run", "steps", "fan_outs"):
                pipeline.hgetall(f"{run}{part}")
            pipeline.lrange(f"{run}entered", 0, -1)

        # Slots are only ever added: those of a moment later still fit the steps and fan-outs of this one.
        (seconds, _), fields, steps, fan_outs, entered = await self._together(fill)
        if not fields:
            return None
        rows = _fan_outs(fan_outs, entered)
        unfolded = [row.id for row in rows if row.fold is None]
        return compose(
            RecordRows(
                run=run_of(fields, to_time(seconds * 1_000_000)),
                steps=_steps(steps),
                fan_outs=rows,
                slots=[row for fan_out in unfolded async for row in self.slots(run_id, fan_out)],
                errors=[row for fan_out in unfolded async for row in self.errors(run_id, fan_out)],
            )
        )

    async def steps(self, run_id: str) -> list[Step]:
        return _steps(await self._read("HGETALL", run_id, "steps"))

    async def fan_outs(self, run_id: str) -> list[FanOutRow]:
        run = self._keys.run(run_id)

        def fill(pipeline: Pipeline) -> None:
            pipeline.hgetall(f"{run}fan_outs")
            pipeline.lrange(f"{run}entered", 0, -1)

        return _fan_outs(*await self._together(fill))

    async def slots(
        self, run_id: str, fan_out: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[SlotRow]:
        end = int(await self._read("HGET", run_id, f"tally:{fan_out}", "stop") or 0)
        end = end if stop is None else min(end, stop)
        for first in range(start, end, _PIECE_ROWS):
            last = min(first + _PIECE_ROWS, end)
            for value in await self._script("slots", run_id, 0, fan_out, first, last):
                yield slot_of(value, is_contribution=True)

    async def errors(self, run_id: str, fan_out: str) -> AsyncIterator[SlotRow]:
        fields: Sequence[bytes] = await self._read("HKEYS", run_id, f"errors:{fan_out}")
        latest = sorted(dict(sorted(_numbers(field) for field in fields)).items())
        for first in range(0, len(latest), _PIECE_ROWS):
            flat = [number for slot in latest[first : first + _PIECE_ROWS] for number in slot]
            for value in await self._script("errors", run_id, 0, fan_out, *flat):
                yield slot_of(value, is_contribution=False)

    async def tally(self, run_id: str, fan_out: str) -> Tally:
        return tally_of(fan_out, await self._read("HGETALL", run_id, f"tally:{fan_out}"))

    async def losses(self, run_id: str, fan_out: str) -> list[Loss]:
        kept: Mapping[bytes, bytes] = await self._read("HGETALL", run_id, f"losses:{fan_out}")
        rows = [loss_of(fan_out, field, value) for field, value in kept.items()]
        return sorted(rows, key=lambda loss: (loss.slot.index, loss.slot.generation, loss.delivery))

    async def _read(self, command: str, run_id: str, part: str, *arguments: Any) -> Any:
        return await self._command(command, f"{self._keys.run(run_id)}{part}", *arguments)


def _numbers(field: bytes) -> tuple[int, int]:
    index, generation = field.split(b":")
    return int(index), int(generation)


def _steps(kept: Mapping[bytes, bytes]) -> list[Step]:
    return sorted((step_of(position, value) for position, value in kept.items()), key=lambda step: step.position)


def _fan_outs(kept: Mapping[bytes, bytes], entered: Sequence[bytes]) -> list[FanOutRow]:
    parts = (b":keys", b":tags", b":fold")
    return [
        fan_out_of(kept[id_], kept.get(id_ + b":hashes", b""), *(kept.get(id_ + part) for part in parts))
        for id_ in entered
        if id_ in kept
    ]
