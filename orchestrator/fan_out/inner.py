"""How what instances tell while they run comes into the record, and back to those that run again."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.fan_out.entry import Entry, EventsTold, NestedOpened, NestedReported, NodeCompleted, read_entries
from orchestrator.fan_out.inside import Inside
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import Slot
from orchestrator.ledger.protocol import LedgerReader
from orchestrator.ledger.view import QueuedItem

if TYPE_CHECKING:
    from orchestrator.execution.journal import RunJournal

Told = list[tuple[Slot, Entry]]


class InnerRecords:
    """Records what happens inside the instances of one run, in one lane."""

    def __init__(self, ledger: LedgerReader, reader: RecordReader, journal: "RunJournal", run_id: str) -> None:
        self._ledger = ledger
        self._reader = reader
        self._journal = journal
        self._run_id = run_id

    async def take(self, fan_out: OpenFanOut, slots: Iterable[Slot]) -> None:
        """Record all that these instances have told and is not recorded yet, then pass their events on."""
        waiting = tuple(slots) if fan_out.is_telling else ()
        while waiting:
            insides = {slot: fan_out.inside.setdefault(slot.index, Inside()) for slot in waiting}
            answers = await self._ledger.told(self._run_id, {slot: one.known for slot, one in insides.items()})
            told = [(slot, read_entries(one.entries)) for slot, one in zip(waiting, answers, strict=True)]
            await self._record(fan_out, [(slot, entry) for slot, entries in told for entry in entries])
            for slot, answer in zip(waiting, answers, strict=True):
                insides[slot].known = answer.end
            waiting = tuple(slot for slot, answer in zip(waiting, answers, strict=True) if answer.entries)

    async def keep(self, fan_out: OpenFanOut, slot: Slot, entries: Iterable[bytes]) -> None:
        """Record what an instance that runs in this process has to tell."""
        fan_out.inside.setdefault(slot.index, Inside())
        await self._record(fan_out, [(slot, entry) for entry in read_entries(entries)])

    async def items(self, fan_out: OpenFanOut, slots: Sequence[Slot]) -> list[QueuedItem]:
        """The items of these slots, each with what is recorded inside its instance."""
        return [fan_out.item(slot, await self._progress(fan_out, slot)) for slot in slots]

    async def _progress(self, fan_out: OpenFanOut, slot: Slot) -> tuple[bytes, ...]:
        inside = fan_out.inside.get(slot.index)
        if inside is None:
            return ()
        # Those that the orchestrator steps find by themselves what is recorded of the fan-outs inside them.
        with_reports = fan_out.plan.node.run_on == "workers"
        entries = inside.entries(self._reader, self._run_id, with_reports=with_reports)
        return tuple([entry async for entry in entries])

    async def _record(self, fan_out: OpenFanOut, told: Told) -> None:
        news = [(slot, entry) for slot, entry in told if _is_news(fan_out.inside[slot.index], entry)]
        if not news:
            return
        kept = await self._journal.keep_inner([entry for _, entry in news])
        rows, steps = iter(kept.fan_outs), iter(kept.steps)
        for slot, entry in news:
            inside = fan_out.inside[slot.index]
            match entry:
                case NestedOpened():
                    inside.note_fan_out(next(rows))
                case NodeCompleted():
                    step = next(steps)
                    inside.note_step(step)
                    fan_out.heard.completed(step)
                case NestedReported(report):
                    inside.recorded[report.slot.fan_out].add(report.slot.index)
                    fan_out.heard.contributed(inside.fan_outs[report.slot.fan_out].key, report)
                case EventsTold():
                    fan_out.heard.happened(slot.index, entry)


def _is_news(inside: Inside, entry: Entry) -> bool:
    """Whether it is to be recorded, or passed on; the same may be told by several deliveries."""
    match entry:
        case NestedOpened(row):
            return row.id not in inside.fan_outs
        case NodeCompleted(step):
            return not inside.has_step(step)
        case NestedReported(report):
            recorded = inside.recorded.get(report.slot.fan_out)
            return recorded is None or report.slot.index not in recorded
        case EventsTold():
            return True
