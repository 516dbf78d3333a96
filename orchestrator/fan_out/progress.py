"""One fan-out in flight: what is recorded, what is outstanding, what comes next."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.bitmap import Bitmap
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Hint
from orchestrator.fan_out.plan import Plan
from orchestrator.identity import Slot
from orchestrator.ledger.view import Opening, QueuedItem
from orchestrator.report import Report


@dataclass(slots=True)
class OpenFanOut:
    """The state of a fan-out between plan and fan-in.

    `outstanding` holds the slots that were queued and are not recorded; `again` those that must be queued once more
    before anything new is. `ended` is resolved when all is recorded, or with the reason why it never will be.
    """

    plan: Plan
    briefing: Briefing
    recorded: Bitmap
    ended: asyncio.Future[None]
    failed_count: int = 0
    is_announced: bool = False
    failure: Report | None = None
    gives_up_at: float | None = None
    outstanding: dict[int, Slot] = field(default_factory=dict)
    again: dict[int, Slot] = field(default_factory=dict)
    declines: dict[int, int] = field(default_factory=dict)
    deferred: list[tuple[float, Slot]] = field(default_factory=list)
    _next: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self.start_over()

    @property
    def id(self) -> str:
        return self.plan.key.id

    @property
    def is_complete(self) -> bool:
        return len(self.recorded) == self.plan.count

    @property
    def is_stopping(self) -> bool:
        return self.failure is not None

    def start_over(self) -> None:
        """Take everything that is not recorded for not queued: the ledger has lost it, or was just opened."""
        self.outstanding.clear()
        self.again.clear()
        self.deferred.clear()
        self._next = self.recorded.missing()

    def take(self, limit: int, now: float) -> list[Slot]:
        """The next slots to queue, at most `limit` new ones, in index order; they are outstanding from now on."""
        due = [slot for at, slot in self.deferred if at <= now]
        self.deferred = [(at, slot) for at, slot in self.deferred if at > now]
        slots = [slot for slot in (*self.again.values(), *due) if slot.index not in self.recorded]
        self.again.clear()
        slots.extend(self._new(limit))
        self.outstanding.update((slot.index, slot) for slot in slots)
        return slots

    def bring_back(self, slots: Iterable[Slot]) -> None:
        """Queue these once more, before anything new."""
        self.again.update((slot.index, slot) for slot in slots)

    def done(self, slot: Slot) -> bool:
        """Take note that a slot is recorded; true where it was not."""
        self.outstanding.pop(slot.index, None)
        self.declines.pop(slot.index, None)
        return self.recorded.add(slot.index)

    def items(self, slots: Iterable[Slot]) -> list[QueuedItem]:
        plan = self.plan
        return [QueuedItem(slot, plan.item(slot.index).encode(), plan.item_key(slot.index)) for slot in slots]

    def hint(self, slot: Slot) -> Hint:
        briefing = self.briefing
        return Hint(
            run_id=briefing.run_id,
            fan_out=self.id,
            index=slot.index,
            generation=slot.generation,
            graph=briefing.graph,
            fingerprint=briefing.fingerprint,
            label=f"{briefing.graph}/{self.plan.key.path}",
            key=self.plan.item_key(slot.index),
            queue=self.plan.node.queue,
        )

    def opening(self) -> Opening:
        text = self.briefing.to_json()
        return Opening(self.id, self.recorded, text, Briefing.hash_of(text))

    def _new(self, limit: int) -> Iterator[Slot]:
        taken = 0
        while taken < limit:
            index = next(self._next, None)
            if index is None:
                return
            if index not in self.recorded and index not in self.outstanding:
                taken += 1
                yield Slot(self.id, index)
