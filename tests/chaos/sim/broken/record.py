"""Broken records: what is committed, by whom, and folded from what."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.checkpoint.memory import MemoryStore, _SlotTable
from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import LedgerLost
from orchestrator.execution import drive, orchestrator
from orchestrator.execution.recorded import RecordedFanOuts
from orchestrator.fan_out.inner import InnerRecords
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.recorder import Recorder
from orchestrator.ledger.memory import MemoryLedger
from tests.chaos.sim.broken.version import Broken, one

_REAL_RECORD = Recorder._record
_REAL_CONTRIBUTIONS = RecordedFanOuts._contributions
_REAL_ACQUIRE = MemoryStore.acquire


async def _close_before_record(self: Recorder, fan_out: OpenFanOut) -> None:
    mine = [slot for slot in self._reported if slot.fan_out == fan_out.id and not fan_out.has(slot)]
    if mine:
        await self._ledger.close(self._ownership.run_id, self._ownership.epoch, mine)
    await _REAL_RECORD(self, fan_out)


def _owned_by_anyone(self: MemoryStore, own: Ownership) -> Any:
    return self._kept(own.run_id)


def _without_epoch(verb: str) -> Callable[..., Any]:
    """The verb of the store as it would be if it did not look at the epoch."""
    real = getattr(MemoryStore, verb)

    async def call(self: MemoryStore, own: Ownership, *args: Any, **named: Any) -> Any:
        now = Ownership(own.run_id, own.invocation_id, self._kept(own.run_id).run.epoch)
        return await real(self, now, *args, **named)

    return call


def _without(verb: str) -> Broken:
    return one(MemoryStore, verb, _without_epoch(verb), shows=lambda scenario: scenario.is_caught_before(verb))


def _appends(self: _SlotTable, row: Any) -> bool:
    slot = row.report.slot
    generations = self._rows[slot.fan_out][slot.index]
    generations[len(generations)] = row
    return True


async def _folds_what_was_reported(self: RecordedFanOuts, plan: Any) -> list[Any]:
    reports = await _REAL_CONTRIBUTIONS(self, plan)
    return [*reports, *reports[:1]]


def _complete_too_early(self: OpenFanOut) -> bool:
    return len(self.recorded) >= self.plan.count - 1


async def _borne_out(_self: InnerRecords, _fan_out: Any, _report: Any) -> bool:
    return True


async def _takes_nothing(_self: InnerRecords, _fan_out: Any, _slots: Any) -> None:
    return None


async def _told_nothing_of_before(_self: InnerRecords, _fan_out: Any, _slot: Any) -> tuple[bytes, ...]:
    return ()


def _acquire_at_once(_self: MemoryStore, _run: Any) -> bool:
    return False


async def _epoch_stays(self: MemoryStore, run_id: str, owner: str, **named: Any) -> Ownership:
    own = await _REAL_ACQUIRE(self, run_id, owner, **named)
    kept = self._kept(run_id)
    if own.epoch > 1:
        kept.run = replace(kept.run, epoch=own.epoch - 1)
    return Ownership(own.run_id, own.invocation_id, kept.run.epoch)


def _no_fence(_self: MemoryLedger, _run_id: str, _epoch: int) -> None:
    return None


def _no_rollback_seen(self: MemoryLedger, run_id: str, epoch: int, fan_outs: Any) -> Any:
    self._fence(run_id, epoch)
    run = self._known(run_id)
    if any(fan_out not in run.fan_outs for fan_out in fan_outs):
        raise LedgerLost(run_id)
    return run


async def _forgets_nothing(_lane: Any, _run_id: str, _epoch: int, *, fan_out: str | None = None) -> None:
    return None


RECORD: dict[str, Broken] = {
    "close before record": one(Recorder, "_record", _close_before_record),
    "append instead of slot": one(_SlotTable, "keep_first", _appends),
    "fan-in not once": one(RecordedFanOuts, "_contributions", _folds_what_was_reported),
    "fan-in before all is recorded": one(OpenFanOut, "is_complete", property(_complete_too_early)),
    "recorded without what it rests on": one(
        InnerRecords,
        "bears_out",
        _borne_out,
        shows=lambda scenario: scenario.shape == "nested" and scenario.has("rollback", "wipe"),
    ),
    "what an instance told is not recorded": one(InnerRecords, "take", _takes_nothing),
    "what is recorded of an instance is not told the next": one(InnerRecords, "_progress", _told_nothing_of_before),
    "no epoch in the commit": one(MemoryStore, "_owned", _owned_by_anyone),
    "an outcome written without the epoch": _without("finish"),
    "a step saved without the epoch": _without("save_step"),
    "slots recorded without the epoch": _without("record"),
    "a lease renewed without the epoch": one(MemoryStore, "renew", _without_epoch("renew")),
    "losses recorded without the epoch": _without("record_losses"),
    "a fan-out opened without the epoch": _without("open_fan_out"),
    "no epoch in the ledger": one(MemoryLedger, "_fence", _no_fence),
    "a lease that no standby respects": one(MemoryStore, "_is_driven", _acquire_at_once),
    "an epoch that does not rise": one(MemoryStore, "acquire", _epoch_stays),
    "a lower epoch in the ledger is no loss": one(MemoryLedger, "_guard", _no_rollback_seen),
    "the ledger is never forgotten": Broken(
        tuple((module, "forget", _forgets_nothing) for module in (drive, orchestrator))
    ),
}
