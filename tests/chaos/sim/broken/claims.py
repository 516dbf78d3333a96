"""Broken claims: tokens, leases, deliveries and reports."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

from orchestrator.ledger import memory as ledger_module
from orchestrator.ledger.claim import Beat, Claimed, Reported, Verdict
from orchestrator.ledger.entry import Entry, FanOutEntries, RunEntries, Stage
from orchestrator.ledger.memory import MemoryLedger
from tests.chaos.sim.broken.version import Broken, one
from tests.chaos.sim.world import World

_REAL_REPORT = MemoryLedger._report
_REAL_VERDICT = ledger_module._verdict
_REAL_GRANT = ledger_module._grant
_REAL_CLAIM = MemoryLedger.claim


def _any_token(entry: Entry, token: str) -> bool:
    return token != "" and entry.stage in (Stage.QUEUED, Stage.RUNNING)


def _report_under_any_token(self: MemoryLedger, run_id: str, told: Any) -> Any:
    fan_out = self._fan_out(run_id, told.slot.fan_out)
    entry = fan_out.find(told.slot) if fan_out else None
    if entry is not None and entry.token:
        entry.token = told.token
    return _REAL_REPORT(self, run_id, told)


def _beat_for_anyone(self: MemoryLedger, run_id: str, held: Any, until: float, *, in_company: bool) -> Beat:
    fan_out = self._fan_out(run_id, held.slot.fan_out)
    entry = fan_out.find(held.slot) if fan_out else None
    if entry is None or entry.stage is not Stage.RUNNING:
        return Beat.LOST
    entry.extend(until, in_company=in_company)
    return Beat.OK


def _beside_a_lease(run: Any, slot: Any, token: str) -> Verdict:
    said = _REAL_VERDICT(run, slot, token)
    return Verdict.OK if said is Verdict.BUSY else said


def _refused_again(run: Any, slot: Any, token: str) -> Verdict:
    fan_out = run.fan_outs.get(slot.fan_out)
    entry = fan_out.find(slot) if fan_out else None
    is_held = entry is not None and entry.stage is Stage.RUNNING
    return Verdict.BUSY if is_held else _REAL_VERDICT(run, slot, token)


def _counted_again(run_id: str, run: RunEntries, held: Any, owner: str, **named: Any) -> Claimed:
    entry = run.fan_outs[held.slot.fan_out].entries[held.slot.index]
    if entry.stage is Stage.RUNNING:
        entry.delivery += 1
    return _REAL_GRANT(run_id, run, held, owner, **named)


def _without_progress(run_id: str, run: RunEntries, held: Any, owner: str, **named: Any) -> Claimed:
    return replace(_REAL_GRANT(run_id, run, held, owner, **named), progress=())


def _extended_though_released(self: Entry, until: float, *, in_company: bool) -> None:
    self.stage, self.until, self.is_released, self.is_in_company = Stage.RUNNING, until, False, in_company


def _held_while_it_lasts(self: MemoryLedger, run_id: str, told: Any) -> Any:
    fan_out = self._fan_out(run_id, told.slot.fan_out)
    entry = fan_out.find(told.slot) if fan_out else None
    has_ended = entry is not None and entry.stage is not Stage.REPORTED and entry.until <= self._clock()
    return Reported.STALE if has_ended else _REAL_REPORT(self, run_id, told)


def _report_taken_once(self: MemoryLedger, run_id: str, told: Any) -> Any:
    fan_out = self._fan_out(run_id, told.slot.fan_out)
    entry = fan_out.find(told.slot) if fan_out else None
    is_again = entry is not None and entry.stage is Stage.REPORTED
    return Reported.STALE if is_again else _REAL_REPORT(self, run_id, told)


def _by_the_workers_clock(
    self: MemoryLedger, run_id: str, slots: Sequence[Any], *, owner: str, token: str, ttl_seconds: float
) -> Any:
    """Every host's clock is wrong by up to a minute."""
    wrong = crc32(owner.encode()) % 120 - 60
    return _REAL_CLAIM(self, run_id, slots, owner=owner, token=token, ttl_seconds=ttl_seconds + wrong)


def _numbered(self: World, _owner: str) -> str:
    # As a ledger would number them: from its own count, which a rollback takes back with it.
    return str(1 + sum(self.witness.granted.deliveries.values()))


def _grant_without_count(self: Entry, token: str, owner: str, *, until: float, in_company: bool) -> None:
    self.stage, self.token, self.owner, self.until = Stage.RUNNING, token, owner, until
    self.delivery = max(self.delivery, 1)
    self.declined, self.is_released, self.is_accompanied, self.is_handed_back = None, False, False, False
    self.is_in_company = in_company


def _never_cancelled(self: RunEntries, _fan_out: FanOutEntries) -> bool:
    return False


CLAIMS: dict[str, Broken] = {
    "no token check in a report": one(MemoryLedger, "_report", _report_under_any_token),
    "no token check in beat and progress": one(Entry, "is_held_under", _any_token),
    "a beat of anyone extends a lease": one(MemoryLedger, "_beat", _beat_for_anyone),
    "a beat takes back what was released": one(
        Entry, "extend", _extended_though_released, shows=lambda scenario: scenario.has("shut_worker_down")
    ),
    "a claim beside a live lease": one(ledger_module, "_verdict", _beside_a_lease),
    "the same claim sent twice is refused": one(ledger_module, "_verdict", _refused_again),
    "the same claim sent twice counts twice": one(ledger_module, "_grant", _counted_again),
    "a claim without the progress kept": one(ledger_module, "_grant", _without_progress),
    "the end of a lease makes a report stale": one(MemoryLedger, "_report", _held_while_it_lasts),
    "the same report sent twice is stale": one(MemoryLedger, "_report", _report_taken_once),
    "wall clock instead of server time": one(MemoryLedger, "claim", _by_the_workers_clock),
    "a counter instead of a nonce": one(World, "nonce", _numbered),
    "deliveries that are not counted": one(Entry, "grant", _grant_without_count),
    "a cancel that no claim heeds": one(RunEntries, "is_cancelled", _never_cancelled),
}
