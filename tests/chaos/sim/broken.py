"""The broken versions: each takes one rule away from the product, or from what a worker is told to do."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from unittest.mock import patch

from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.checkpoint.row import Ownership
from orchestrator.execution import drive, orchestrator
from orchestrator.execution.recorded import RecordedFanOuts
from orchestrator.fan_out.dispatch import Dispatcher
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.recorder import Recorder
from orchestrator.fan_out.sweeping import Sweeper
from orchestrator.ledger import memory as ledger_module
from orchestrator.ledger import sweeping as sweeping_module
from orchestrator.ledger.claim import Beat, Verdict
from orchestrator.ledger.entry import Entry, FanOutEntries, Stage
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import QueueAnswer, Sweep
from tests.chaos.sim.world import World


@dataclass(frozen=True, slots=True)
class Broken:
    """A broken version: what stands in place of what, while it is tried."""

    places: tuple[tuple[Any, str, Any], ...]

    def version(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for owner, name, instead in self.places:
            stack.enter_context(patch.object(owner, name, instead))
        return stack


def _one(owner: Any, name: str, instead: Any) -> Broken:
    return Broken(((owner, name, instead),))


def _any_token(entry: Entry, token: str) -> bool:
    return token != "" and entry.stage in (Stage.QUEUED, Stage.RUNNING)


def _reports_without_token() -> Callable[..., Any]:
    real = MemoryLedger._report

    def report(self: MemoryLedger, run_id: str, told: Any) -> Any:
        fan_out = self._fan_out(run_id, told.slot.fan_out)
        entry = fan_out.find(told.slot) if fan_out else None
        if entry is not None and entry.token:
            entry.token = told.token
        return real(self, run_id, told)

    return report


def _claims_beside_a_lease() -> Callable[..., Any]:
    real = ledger_module._verdict

    def verdict(run: Any, slot: Any, token: str) -> Verdict:
        said = real(run, slot, token)
        return Verdict.OK if said is Verdict.BUSY else said

    return verdict


async def _close_before_record(self: Recorder, fan_out: OpenFanOut) -> None:
    mine = [slot for slot in self._reported if slot.fan_out == fan_out.id and not fan_out.has(slot)]
    if mine:
        await self._ledger.close(self._ownership.run_id, self._ownership.epoch, mine)
    await _REAL_RECORD(self, fan_out)


_REAL_RECORD = Recorder._record
_REAL_OWNED = MemoryStore._owned


def _owned_by_anyone(self: MemoryStore, own: Ownership) -> Any:
    return self._kept(own.run_id)


def _no_fence(_self: MemoryLedger, _run_id: str, _epoch: int) -> None:
    return None


async def _no_sweep(_self: Any, _fan_out: Any) -> list[Any]:
    return []


def _queue_over_a_lease() -> Callable[..., Any]:
    real = ledger_module._queue

    def queue(run: Any, item: Any, *, now: float, until: float) -> QueueAnswer:
        entry = run.fan_outs[item.slot.fan_out].find(item.slot)
        if entry is not None and entry.stage is Stage.RUNNING:
            entry.until = now
        return real(run, item, now=now, until=until)

    return queue


def _sweep_blind_to(kind: str) -> Callable[..., Any]:
    real = sweeping_module.sweep

    def sweep(run: Any, outstanding: Any, *, now: float) -> Sweep:
        found = real(run, outstanding, now=now)
        kinds = ("lapsed", "overdue", "declined", "unknown")
        return Sweep(**{name: () if name == kind else getattr(found, name) for name in kinds})

    return sweep


def _counter() -> Callable[..., str]:
    numbers = count(1)

    def token(self: World, _owner: str) -> str:
        # As a ledger would number them: from its own count, which a rollback takes back with it.
        next(numbers)
        return str(1 + sum(self.witness.granted.deliveries.values()))

    return token


def _acquire_at_once(_self: MemoryStore, _run: Any) -> bool:
    return False


def _grant_without_count(self: Entry, token: str, owner: str, *, until: float) -> None:
    self.stage, self.token, self.owner, self.until = Stage.RUNNING, token, owner, until
    self.delivery = max(self.delivery, 1)
    self.declined, self.is_released, self.is_accompanied, self.is_handed_back = None, False, False, False


async def _open_keeps_closed(self: MemoryLedger, run_id: str, epoch: int, opening: Any) -> None:
    before = self._fan_out(run_id, opening.fan_out)
    await _REAL_OPEN(self, run_id, epoch, opening)
    if before is not None:
        self._runs[run_id].fan_outs[opening.fan_out].closed = before.closed


async def _open_forgets_leases(self: MemoryLedger, run_id: str, epoch: int, opening: Any) -> None:
    run = self._runs.get(run_id)
    if run is not None:
        run.fan_outs.pop(opening.fan_out, None)
    await _REAL_OPEN(self, run_id, epoch, opening)


_REAL_OPEN = MemoryLedger.open


def _complete_too_early(self: OpenFanOut) -> bool:
    return len(self.recorded) >= self.plan.count - 1


def _beat_for_anyone(self: MemoryLedger, run_id: str, held: Any, until: float) -> Beat:
    fan_out = self._fan_out(run_id, held.slot.fan_out)
    entry = fan_out.find(held.slot) if fan_out else None
    if entry is None or entry.stage is not Stage.RUNNING:
        return Beat.LOST
    entry.extend(until)
    return Beat.OK


async def _publish_first(self: Dispatcher, fan_out: OpenFanOut, slots: Any) -> None:
    await self._lane.executor.dispatch([fan_out.hint(slot) for slot in slots])
    await _REAL_QUEUE(self, fan_out, slots)


_REAL_QUEUE = Dispatcher._queue


async def _folds_what_was_reported(self: RecordedFanOuts, plan: Any) -> list[Any]:
    reports = await _REAL_CONTRIBUTIONS(self, plan)
    return [*reports, *reports[:1]]


_REAL_CONTRIBUTIONS = RecordedFanOuts._contributions


def _lost_at_once(self: Sweeper, _fan_out: Any, _loss: Any) -> None:
    return None


async def _epoch_stays(self: MemoryStore, run_id: str, owner: str, **named: Any) -> Ownership:
    own = await _REAL_ACQUIRE(self, run_id, owner, **named)
    kept = self._kept(run_id)
    if own.epoch > 1:
        kept.run = replace(kept.run, epoch=own.epoch - 1)
    return Ownership(own.run_id, own.invocation_id, kept.run.epoch)


_REAL_ACQUIRE = MemoryStore.acquire


def _closes_nothing(self: FanOutEntries, _slot: Any) -> None:
    return None


async def _forgets_nothing(_lane: Any, _run_id: str, _epoch: int, *, fan_out: str | None = None) -> None:
    return None


BROKEN: dict[str, Broken] = {
    "no token check in a report": _one(MemoryLedger, "_report", _reports_without_token()),
    "no token check in beat and progress": _one(Entry, "is_held_under", _any_token),
    "a beat of anyone extends a lease": _one(MemoryLedger, "_beat", _beat_for_anyone),
    "a claim beside a live lease": _one(ledger_module, "_verdict", _claims_beside_a_lease()),
    "close before record": _one(Recorder, "_record", _close_before_record),
    "no epoch in the commit": _one(MemoryStore, "_owned", _owned_by_anyone),
    "no epoch in the ledger": _one(MemoryLedger, "_fence", _no_fence),
    "fan-in not once": _one(RecordedFanOuts, "_contributions", _folds_what_was_reported),
    "fan-in before all is recorded": _one(OpenFanOut, "is_complete", property(_complete_too_early)),
    "no sweep": _one(Sweeper, "sweep", _no_sweep),
    "a sweep blind to lapsed leases": _one(ledger_module, "sweep", _sweep_blind_to("lapsed")),
    "a sweep blind to lost messages": _one(ledger_module, "sweep", _sweep_blind_to("overdue")),
    "a sweep blind to slots that a rollback took": _one(ledger_module, "sweep", _sweep_blind_to("unknown")),
    "a counter instead of a nonce": _one(World, "nonce", _counter()),
    "a lease that no standby respects": _one(MemoryStore, "_is_driven", _acquire_at_once),
    "an epoch that does not rise": _one(MemoryStore, "acquire", _epoch_stays),
    "deliveries that are not counted": _one(Entry, "grant", _grant_without_count),
    "open that leaves closed what is not recorded": _one(MemoryLedger, "open", _open_keeps_closed),
    "open that forgets live leases": _one(MemoryLedger, "open", _open_forgets_leases),
    "publish before queue": _one(Dispatcher, "_queue", _publish_first),
    "a lost delivery that is not queued again": _one(Sweeper, "_try_again", _lost_at_once),
    "queueing over a live lease": _one(ledger_module, "_queue", _queue_over_a_lease()),
    "close that marks nothing": _one(FanOutEntries, "close", _closes_nothing),
    "the ledger is never forgotten": Broken(
        tuple((module, "forget", _forgets_nothing) for module in (drive, orchestrator))
    ),
}

EQUIVALENT = {
    "the last report of a slot wins": "no second report of a slot comes to the store: an owner does not record again "
    "what it has committed, `open` closes what is recorded, and who is fenced commits nothing",
}
