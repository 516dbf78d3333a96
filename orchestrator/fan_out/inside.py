"""What is recorded of instances that are not recorded themselves."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.fan_out.entry import Entry, EventsTold, NestedOpened, NestedReported, NodeCompleted, write_entry
from orchestrator.fan_out.fold import Fold, fold_hash
from orchestrator.identity import FanOutKey, Lineage
from orchestrator.report import HASH_BYTES, Report


class Contributions:
    """The instances of a nested fan-out that are recorded, with the hash of what each has contributed."""

    def __init__(self, count: int) -> None:
        self._indexes = Bitmap(count)
        self._hashes = bytearray(HASH_BYTES * count)

    def lacks(self, index: int) -> bool:
        """Whether the fan-out has such an instance, which is not recorded."""
        return 0 <= index < self._indexes.size and index not in self._indexes

    def add(self, report: Report) -> None:
        index = report.slot.index
        self._indexes.add(index)
        self._hashes[HASH_BYTES * index : HASH_BYTES * (index + 1)] = bytes.fromhex(report.hash)

    def fold(self, fan_out: str) -> Fold:
        """What fan-in keeps when it has folded these."""
        hashes = ((index, self._hashes[HASH_BYTES * index : HASH_BYTES * (index + 1)].hex()) for index in self._indexes)
        return Fold(fan_out, len(self._indexes), fold_hash(hashes))


@dataclass(slots=True)
class Inside:
    """The fan-outs and the completed nodes inside one instance.

    `known` is how many entries of what it told in the ledger have been read. `contributions` are those recorded of a
    fan-out, where they have been read since the run was taken up. `others` are the fan-outs that the running delivery
    has entered with other items than the recorded ones: it knew nothing of these. `events` has the hashes of those
    that were passed on. After a write of which nobody knows whether it was done, it is `doubtful` what is recorded.
    """

    fan_outs: dict[str, FanOutRow] = field(default_factory=dict)
    steps: dict[Step, int] = field(default_factory=dict)
    contributions: dict[str, Contributions] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    events: set[int] = field(default_factory=set)
    known: int = 0
    doubtful: bool = False

    def takes(self, entry: Entry) -> bool:
        """Whether an entry that came through the ledger is to be recorded, or passed on; it is noted then.

        A ledger that was rolled back may have lost what the entry rests on: nothing is recorded without its reason.
        """
        return self.bears_out(_folds(entry)) and self.notes(entry)

    def notes(self, entry: Entry) -> bool:
        """Whether an entry is news, and is noted: several deliveries may tell the same."""
        match entry:
            case NestedOpened(row):
                return self._opens(row)
            case NestedReported(report):
                return self._adds(report)
            case NodeCompleted(step):
                is_news = _bare(step) not in self.steps
                self.steps.setdefault(_bare(step), step.position)
                return is_news
            case EventsTold():
                # The same list is read again where the instance was queued again.
                is_news = hash(entry) not in self.events
                self.events.add(hash(entry))
                return is_news

    def bears_out(self, folds: Iterable[Fold]) -> bool:
        """Whether what is recorded is what these folded."""
        return all(
            fold.fan_out in self.contributions and self.contributions[fold.fan_out].fold(fold.fan_out) == fold
            for fold in folds
        )

    def note_step(self, step: Step) -> None:
        self.steps[_bare(step)] = step.position

    def doubt(self) -> None:
        """Believe nothing of what is recorded until it has been read again."""
        self.contributions.clear()
        self.doubtful = True

    def settle(self) -> None:
        """Take note that all that was noted is recorded."""
        if self.doubtful:
            self.contributions.clear()
            self.doubtful = False

    def _opens(self, row: FanOutRow) -> bool:
        before = self.fan_outs.setdefault(row.id, row)
        if before is row:
            self.contributions[row.id] = Contributions(row.instance_count)
        elif before.has_items_of(row):
            self.others.discard(row.id)
        else:
            self.others.add(row.id)
        return before is row

    def _adds(self, report: Report) -> bool:
        own = None if report.slot.fan_out in self.others else self.contributions.get(report.slot.fan_out)
        is_news = own is not None and own.lacks(report.slot.index)
        if own is not None and is_news:
            own.add(report)
        return is_news

    def copy(self) -> "Inside":
        """One that takes note of more, while this one stays as it is; what both know of contributions `doubt` drops."""
        own = replace(self, fan_outs=dict(self.fan_outs), steps=dict(self.steps))
        return replace(own, others=set(self.others), events=set(self.events))

    async def entries(self, reader: RecordReader, run_id: str, *, with_reports: bool) -> AsyncIterator[bytes]:
        """What the next delivery is told of all this, in the order in which it happened."""
        for one in self._in_order():
            yield write_entry(one)
            if with_reports and isinstance(one, NestedOpened):
                async for slot in reader.slots(run_id, one.row.id):
                    yield write_entry(NestedReported(slot.report, slot.key))

    def _in_order(self) -> list[NestedOpened | NodeCompleted]:
        # What was entered before a node was completed has at most that node's position.
        opened = {(row.position, 0, row.id): NestedOpened(row) for row in self.fan_outs.values()}
        completed = {(position, 1, step.node): NodeCompleted(step) for step, position in self.steps.items()}
        placed: dict[tuple[int, int, str], NestedOpened | NodeCompleted] = {**opened, **completed}
        return [placed[place] for place in sorted(placed)]


def insides(key: FanOutKey, rows: Iterable[FanOutRow], steps: Iterable[Step]) -> dict[int, Inside]:
    """What is recorded inside the instances of a fan-out, by index."""
    found: dict[int, Inside] = {}
    for row in rows:
        index = _index_in(key, row.key.lineage)
        if index is not None:
            found.setdefault(index, Inside()).fan_outs[row.id] = row
    for step in steps:
        index = _index_in(key, step.lineage)
        if index is not None:
            found.setdefault(index, Inside()).note_step(step)
    return found


def _index_in(key: FanOutKey, lineage: Lineage) -> int | None:
    """The instance of this fan-out that the lineage leads through."""
    depth = len(key.lineage)
    if len(lineage) <= depth:
        return None
    index = lineage[depth].index
    return index if lineage[: depth + 1] == key.enclosing(index) else None


def _folds(entry: Entry) -> tuple[Fold, ...]:
    """The fan-outs that an entry rests on."""
    match entry:
        case NestedReported(report):
            return report.folds
        case NodeCompleted(step):
            return step.folds
        case _:
            return ()


def _bare(step: Step) -> Step:
    """The step without what the store and the orchestrator add."""
    return replace(step, position=0, saved_at=None)
