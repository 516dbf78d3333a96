"""What is recorded of instances that are not recorded themselves."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.protocol import RecordReader
from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.fan_out.entry import NestedOpened, NestedReported, NodeCompleted, write_entry
from orchestrator.identity import FanOutKey, Lineage


@dataclass(slots=True)
class Inside:
    """The fan-outs and the completed nodes inside one instance.

    `known` is how many entries of what it told in the ledger have been read. `recorded` says which nested instances
    have been recorded by this invocation.
    """

    fan_outs: dict[str, FanOutRow] = field(default_factory=dict)
    steps: dict[Step, int] = field(default_factory=dict)
    recorded: dict[str, Bitmap] = field(default_factory=dict)
    known: int = 0

    def note_fan_out(self, row: FanOutRow) -> None:
        self.fan_outs[row.id] = row
        self.recorded[row.id] = Bitmap(row.instance_count)

    def note_step(self, step: Step) -> None:
        self.steps[_bare(step)] = step.position

    def has_step(self, step: Step) -> bool:
        """Whether this very completion is recorded: it may be told again."""
        return _bare(step) in self.steps

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
            found.setdefault(index, Inside()).note_fan_out(row)
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


def _bare(step: Step) -> Step:
    """The step without what the store and the orchestrator add."""
    return replace(step, position=0, saved_at=None)
