"""How a ledger in memory finds what its orchestrator must act on."""

from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.identity import Slot
from orchestrator.ledger.entry import Entry, FanOutEntries, RunEntries, Stage
from orchestrator.ledger.view import Declined, Lapse, Overdue, Sweep


def sweep(run: RunEntries, outstanding: Sequence[Slot], *, now: float) -> Sweep:
    """Look at these slots. Each is named until it is queued again, in one kind at most."""
    lapsed: list[tuple[Slot, Entry]] = []
    overdue: list[Overdue] = []
    declined: list[Declined] = []
    unknown: list[Slot] = []
    for slot in outstanding:
        fan_out = run.fan_outs[slot.fan_out]
        entry = fan_out.find(slot)
        if entry is None or entry.stage is Stage.FREE:
            if not fan_out.is_over(slot):
                unknown.append(slot)
        elif entry.stage is Stage.RUNNING and entry.until <= now:
            lapsed.append((slot, entry))
        elif entry.stage is Stage.QUEUED and entry.declined:
            declined.append(Declined(slot, *entry.declined))
        elif entry.stage is Stage.QUEUED and entry.until <= now:
            overdue.append(_overdue(slot, entry, fan_out))
    return Sweep(lapsed=_lapses(run, lapsed), overdue=tuple(overdue), declined=tuple(declined), unknown=tuple(unknown))


def _overdue(slot: Slot, entry: Entry, fan_out: FanOutEntries) -> Overdue:
    return Overdue(slot, overtaken=fan_out.last_claimed > entry.order)


def _lapses(run: RunEntries, lapsed: Sequence[tuple[Slot, Entry]]) -> tuple[Lapse, ...]:
    if not lapsed:
        return ()
    _mark_company(run, {entry.owner for _, entry in lapsed})
    return tuple(
        Lapse(slot, entry.owner, entry.delivery, entry.is_alone, handed_back=entry.is_handed_back)
        for slot, entry in lapsed
    )


def _mark_company(run: RunEntries, owners: set[str]) -> None:
    """Remember who was lost together: the others may be queued again, one by one, before the next sweep."""
    counts = Counter(entry.owner for entry in _running(run))
    for entry in _running(run):
        if entry.owner in owners and counts[entry.owner] > 1:
            entry.is_accompanied = True


def _running(run: RunEntries) -> Iterator[Entry]:
    for fan_out in run.fan_outs.values():
        for entry in fan_out.entries.values():
            if entry.stage is Stage.RUNNING:
                yield entry
