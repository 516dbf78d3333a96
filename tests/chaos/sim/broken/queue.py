"""Broken queues: what is put up, found lost, and closed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.bitmap import Bitmap
from orchestrator.fan_out import dispatch
from orchestrator.fan_out.dispatch import Dispatcher
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.recorder import Recorder
from orchestrator.fan_out.sweeping import Sweeper
from orchestrator.ledger import memory as ledger_module
from orchestrator.ledger import sweeping as sweeping_module
from orchestrator.ledger.entry import Entry, FanOutEntries, Stage
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.ledger.view import QueueAnswer, Sweep
from tests.chaos.sim.broken.version import Broken, one

_REAL_QUEUE = ledger_module._queue
_REAL_SWEEP = sweeping_module.sweep
_REAL_PUT_UP = Dispatcher._queue
_REAL_OPEN = MemoryLedger.open
_REAL_OPENING = OpenFanOut.opening
_REAL_WAIT_OUT = Recorder._wait_out
_REAL_BURY = Sweeper._bury


def _over_a_lease(run: Any, item: Any, *, now: float, until: float) -> QueueAnswer:
    entry = run.fan_outs[item.slot.fan_out].find(item.slot)
    if entry is not None and entry.stage is Stage.RUNNING:
        entry.until = now
    return _REAL_QUEUE(run, item, now=now, until=until)


def _over_a_report(run: Any, item: Any, *, now: float, until: float) -> QueueAnswer:
    entry = run.fan_outs[item.slot.fan_out].find(item.slot)
    if entry is not None and entry.stage is Stage.REPORTED:
        entry.stage = Stage.QUEUED
    return _REAL_QUEUE(run, item, now=now, until=until)


def _forgets_the_token(run: Any, item: Any, *, now: float, until: float) -> QueueAnswer:
    answer = _REAL_QUEUE(run, item, now=now, until=until)
    if answer is QueueAnswer.OK:
        run.fan_outs[item.slot.fan_out].entries[item.slot.index].token = ""
    return answer


def _counts_anew(run: Any, item: Any, *, now: float, until: float) -> QueueAnswer:
    return _REAL_QUEUE(run, replace(item, deliveries=0), now=now, until=until)


async def _publish_first(self: Dispatcher, fan_out: OpenFanOut, slots: Any) -> None:
    await self._lane.executor.dispatch([fan_out.hint(slot) for slot in slots])
    await _REAL_PUT_UP(self, fan_out, slots)


def _no_window(_concurrency: Any, _capacity: Any) -> int:
    return 1000


async def _no_sweep(_self: Any, _fan_out: Any) -> list[Any]:
    return []


def _blind_to(kind: str) -> Callable[..., Any]:
    def sweep(run: Any, outstanding: Any, *, now: float) -> Sweep:
        found = _REAL_SWEEP(run, outstanding, now=now)
        kinds = ("lapsed", "overdue", "declined", "unknown")
        return Sweep(**{name: () if name == kind else getattr(found, name) for name in kinds})

    return sweep


def _never_tried_again(_self: Sweeper, _fan_out: Any, _loss: Any) -> None:
    return None


async def _never_given_up(self: Sweeper, fan_out: Any, lapsed: Any) -> list[Any]:
    lost = await _REAL_BURY(self, fan_out, lapsed)
    fan_out.bring_back([report.slot for report in lost])
    return []


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


def _opens_as_if_new(self: OpenFanOut, created_at: str) -> Any:
    return replace(_REAL_OPENING(self, created_at), recorded=Bitmap(self.plan.count))


async def _announces_without_open(self: Recorder, fan_out: OpenFanOut) -> None:
    fan_out.announced(())


async def _sweeps_at_once(self: Recorder, error: Any, failures: int) -> None:
    await _REAL_WAIT_OUT(self, error, failures)
    self._held_until = self._sweep_at = 0.0


def _closes_nothing(self: FanOutEntries, _slot: Any) -> None:
    return None


QUEUE: dict[str, Broken] = {
    "queueing over a live lease": one(ledger_module, "_queue", _over_a_lease),
    "queueing over a report": one(ledger_module, "_queue", _over_a_report),
    "queueing drops the token of an ended lease": one(ledger_module, "_queue", _forgets_the_token),
    "deliveries counted anew where the ledger was lost": one(ledger_module, "_queue", _counts_anew),
    "publish before queue": one(Dispatcher, "_queue", _publish_first),
    "a window without end": one(dispatch, "window", _no_window),
    "no sweep": one(Sweeper, "sweep", _no_sweep),
    "a sweep blind to lapsed leases": one(ledger_module, "sweep", _blind_to("lapsed")),
    "a sweep blind to lost messages": one(ledger_module, "sweep", _blind_to("overdue")),
    "a sweep blind to declined slots": one(ledger_module, "sweep", _blind_to("declined")),
    "a sweep blind to slots that a rollback took": one(ledger_module, "sweep", _blind_to("unknown")),
    "a sweep right after the ledger was away": one(
        Recorder, "_wait_out", _sweeps_at_once, shows=lambda scenario: scenario.only_misses_its_ledger
    ),
    "a lost delivery that is not queued again": one(Sweeper, "_try_again", _never_tried_again),
    "the poisoned is never given up": one(Sweeper, "_bury", _never_given_up),
    "neighbours of the poisoned are charged": one(
        Entry, "is_alone", property(lambda _self: True), shows=lambda scenario: scenario.poison is not None
    ),
    "open that leaves closed what is not recorded": one(MemoryLedger, "open", _open_keeps_closed),
    "open that forgets live leases": one(MemoryLedger, "open", _open_forgets_leases),
    "open that closes nothing": one(OpenFanOut, "opening", _opens_as_if_new),
    "a new owner that does not open": one(Recorder, "_announce", _announces_without_open),
    "close that marks nothing": one(FanOutEntries, "close", _closes_nothing),
}
