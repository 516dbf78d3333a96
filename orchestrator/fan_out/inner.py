"""How what instances tell while they run comes into the record, and back to those that run again."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import OperatorError
from orchestrator.fan_out.entry import Entry, EventsTold, NestedOpened, NestedReported, NodeCompleted, read_entries
from orchestrator.fan_out.inside import Contributions, Inside
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.identity import Slot
from orchestrator.ledger.protocol import OrchestratorLedger
from orchestrator.ledger.view import QueuedItem
from orchestrator.report import Report

if TYPE_CHECKING:
    from orchestrator.execution.journal import RunJournal

Told = list[tuple[Slot, Entry]]


class InnerRecords:
    """Records what happens inside the instances of one run, in one lane."""

    def __init__(
        self, ledger: OrchestratorLedger, reader: RecordReader, journal: "RunJournal", ownership: Ownership
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._journal = journal
        self._run_id = ownership.run_id
        self._epoch = ownership.epoch

    async def take(self, fan_out: OpenFanOut, slots: Iterable[Slot]) -> None:
        """Record all that these instances have told and is not recorded yet, then pass their events on."""
        waiting = tuple(slots) if fan_out.is_telling else ()
        while waiting:
            known = {slot: fan_out.inside.setdefault(slot.index, Inside()).known for slot in waiting}
            answers = await self._ledger.told(self._run_id, self._epoch, known)
            for slot, answer in zip(waiting, answers, strict=True):
                self._pass_over(fan_out, slot, read_entries(answer.entries[: answer.repeated]))
            told = [(slot, read_entries(one.entries)) for slot, one in zip(waiting, answers, strict=True)]
            await self._record(fan_out, [(slot, entry) for slot, entries in told for entry in entries], Inside.takes)
            for slot, answer in zip(waiting, answers, strict=True):
                fan_out.inside[slot.index].known = answer.end
            # One answer has room for so much: a slot of which nothing came may have been left out of it.
            waiting = waiting if any(answer.entries for answer in answers) else ()

    def _pass_over(self, fan_out: OpenFanOut, slot: Slot, entries: Iterable[Entry]) -> None:
        """Take note of events that an earlier owner of the run was given: observers hear of nothing twice."""
        for entry in entries:
            if isinstance(entry, EventsTold) and fan_out.inside[slot.index].notes(entry):
                fan_out.heard.repeated(slot.index, entry)

    async def keep(self, fan_out: OpenFanOut, slot: Slot, entries: Iterable[bytes]) -> None:
        """Record what an instance that runs in this process has to tell."""
        fan_out.inside.setdefault(slot.index, Inside())
        await self._record(fan_out, [(slot, entry) for entry in read_entries(entries)], Inside.notes)

    async def bears_out(self, fan_out: OpenFanOut, report: Report) -> bool:
        """Whether the record has what a report rests on; a ledger that was rolled back may have lost it on the way."""
        if not report.folds or fan_out.plan.node.run_on != "workers":
            return True
        inside = fan_out.inside.setdefault(report.slot.index, Inside())
        return (await self._read(inside)).bears_out(report.folds)

    async def item(self, fan_out: OpenFanOut, slot: Slot) -> QueuedItem:
        """The item of a slot, with what is recorded inside its instance."""
        return fan_out.item(slot, await self._progress(fan_out, slot))

    async def _progress(self, fan_out: OpenFanOut, slot: Slot) -> tuple[bytes, ...]:
        inside = fan_out.inside.get(slot.index)
        if inside is None:
            return ()
        # Those that the orchestrator steps find by themselves what is recorded of the fan-outs inside them.
        with_reports = fan_out.plan.node.run_on == "workers"
        entries = inside.entries(self._reader, self._run_id, with_reports=with_reports)
        return tuple([entry async for entry in entries])

    async def _record(self, fan_out: OpenFanOut, told: Told, takes: Callable[[Inside, Entry], bool]) -> None:
        indexes = {slot.index for slot, _ in told}
        insides = {index: (await self._read(fan_out.inside[index])).copy() for index in indexes}
        news = [(slot, entry) for slot, entry in told if takes(insides[slot.index], entry)]
        try:
            kept = await self._journal.keep_inner([entry for _, entry in news])
        except OperatorError:
            for index in insides:
                fan_out.inside[index].doubt()
            raise
        rows, steps = iter(kept.fan_outs), iter(kept.steps)
        for slot, entry in news:
            inside = insides[slot.index]
            match entry:
                case NestedOpened(row):
                    inside.fan_outs[row.id] = next(rows)
                case NodeCompleted():
                    inside.note_step(next(steps))
        for inside in insides.values():
            inside.settle()
        fan_out.inside.update(insides)
        self._tell(fan_out, news)

    def _tell(self, fan_out: OpenFanOut, news: Told) -> None:
        for slot, entry in news:
            match entry:
                case NodeCompleted(step):
                    fan_out.heard.completed(step)
                case NestedReported(report):
                    fan_out.heard.contributed(fan_out.inside[slot.index].fan_outs[report.slot.fan_out], report)
                case EventsTold():
                    fan_out.heard.happened(slot.index, entry)

    async def _read(self, inside: Inside) -> Inside:
        """One that knows which contributions are recorded: those of earlier invocations are read the first time."""
        for row in inside.fan_outs.values():
            if row.id not in inside.contributions:
                found = Contributions(row.instance_count)
                async for slot in self._reader.slots(self._run_id, row.id):
                    found.add(slot.report)
                inside.contributions[row.id] = found
        return inside
