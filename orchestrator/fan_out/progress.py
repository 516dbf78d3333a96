"""One fan-out in flight: what is recorded, what is outstanding, what comes next."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import SlotRow
from orchestrator.execution.briefing import Briefing
from orchestrator.execution.executor import Hint
from orchestrator.fan_out.deliveries import Deliveries
from orchestrator.fan_out.heard import Heard, Unheard
from orchestrator.fan_out.inside import Inside
from orchestrator.fan_out.measured import Measured
from orchestrator.fan_out.plan import Plan
from orchestrator.identity import Slot
from orchestrator.instance.kept import TOLD_EVERY_SECONDS
from orchestrator.ledger.view import LiveInstance, LiveState, Opening, QueuedItem
from orchestrator.metadata import Gathered
from orchestrator.report import Report
from orchestrator.tracing.span import NO_SPAN, Span


@dataclass(slots=True)
class OpenFanOut:
    """The state of a fan-out between plan and fan-in.

    `outstanding` holds the slots that were queued and are not recorded; `again` those that must be queued once more
    before anything new is; `suspects` those that are to run with nothing else outstanding; `unclosed` those that are
    committed and not closed in the ledger yet. `ended` is resolved when all is recorded, or with the reason why it
    never will be. `failure` is the first failure under `fail_fast`. `heard` is told of all that is recorded, once.
    `inside` is what is recorded inside instances that are not recorded themselves. `sizes` are the bytes of the
    items that the ledger holds, as far as they are known: 0 for what an earlier owner has queued. `queued_for` is the
    delivery that each slot which has not ended was queued for, as was told; `is_after_end` where the invocation before
    has told that nothing more comes of what it had queued; `workers` had begun what ran when the fan-out was stopped.
    `span` is that of the fan-out node's attempt, `written` is what its instances have added to the metadata.
    """

    plan: Plan
    briefing: Briefing
    recorded: Bitmap
    ended: asyncio.Future[None]
    failed_count: int = 0
    is_announced: bool = False
    is_after_end: bool = False
    failure: Report | None = None
    gives_up_at: float | None = None
    outstanding: dict[int, Slot] = field(default_factory=dict)
    again: dict[int, Slot] = field(default_factory=dict)
    suspects: dict[int, Slot] = field(default_factory=dict)
    unclosed: dict[int, Slot] = field(default_factory=dict)
    accompanied_losses: Counter[int] = field(default_factory=Counter)
    declines: Counter[int] = field(default_factory=Counter)
    deferred: dict[int, tuple[float, Slot]] = field(default_factory=dict)
    heard: Heard = field(default_factory=Unheard)
    inside: dict[int, Inside] = field(default_factory=dict)
    deliveries: Deliveries = field(default_factory=Deliveries)
    sizes: dict[int, int] = field(default_factory=dict)
    measured: Measured = field(default_factory=Measured)
    queued_for: dict[int, int] = field(default_factory=dict)
    workers: dict[int, str] = field(default_factory=dict)
    span: Span = NO_SPAN
    written: Gathered = field(default_factory=Gathered)
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
    def is_telling(self) -> bool:
        """Whether its instances may tell something while they run."""
        return bool(self.briefing.events_wanted) or self.plan.node.subgraph.tells

    def may_have_told(self, report: Report) -> bool:
        """Whether its instance may have told something before: a quick one that keeps nothing has not."""
        is_quick = report.delivery == 1 and report.duration_seconds < TOLD_EVERY_SECONDS
        return self.plan.node.subgraph.tells or not is_quick

    def start_over(self) -> None:
        """Take everything that is not recorded for not queued: the ledger has lost it, or was never opened."""
        self.is_announced = False
        self.outstanding.clear()
        self.again.clear()
        self.suspects.clear()
        self.unclosed.clear()
        self.deferred.clear()
        self.sizes.clear()
        for one in self.inside.values():
            one.known = 0
        self._next = self.recorded.missing()

    def announced(self, live: Iterable[LiveInstance]) -> None:
        """Take note of what the ledger has in flight from before: it is waited for, not queued again.

        The message of what is only queued there may be gone: that is queued and told again, and needs no more room.
        """
        self.is_announced = True
        left = [one for one in live if one.slot.index not in self.recorded]
        self.sizes.update((one.slot.index, 0) for one in left)
        self.outstanding.update((one.slot.index, one.slot) for one in left)
        for one in left:
            is_waiting = one.state is LiveState.QUEUED
            # Whoever queued it has told of it.
            if not (is_waiting and self.is_after_end):
                self.queued_for[one.slot.index] = one.delivery + is_waiting
        self.bring_back(one.slot for one in left if one.state is LiveState.QUEUED)

    def take(self, limit: int, due_at: float) -> list[Slot]:
        """The next slots to queue, at most `limit` new ones, in index order; they are outstanding from now on.

        Deferred ones are taken that are due at that time of the loop.
        """
        slots = [slot for slot in (*self.again.values(), *self._due(due_at)) if slot.index not in self.recorded]
        self.again.clear()
        if not self.suspects:
            slots.extend(self._new(limit))
        elif not slots and not self.outstanding:
            slots.append(self.suspects.pop(min(self.suspects)))
        self.outstanding.update((slot.index, slot) for slot in slots)
        return slots

    def queued(self, item: QueuedItem) -> None:
        """Take note of what the ledger took; where only its message is repeated, that is no news."""
        index, delivery = item.slot.index, item.deliveries + 1
        if self.queued_for.get(index, 0) < delivery:
            self.queued_for[index] = delivery
            self.heard.queued(index, delivery)

    def stopped(self) -> None:
        """Nothing more comes of what was queued and has not ended."""
        left, self.queued_for = self.queued_for, {}
        self.heard.stopped(left, self.workers)

    def bring_back(self, slots: Iterable[Slot]) -> None:
        """Queue these once more, before anything new."""
        for slot in slots:
            self.again[slot.index] = slot
            if slot.index in self.inside:
                self.inside[slot.index].known = 0

    def isolate(self, slot: Slot) -> None:
        """Run this one again with nothing else outstanding, so that the next loss tells whether it is to blame."""
        self.outstanding.pop(slot.index, None)
        self.suspects[slot.index] = slot

    def has(self, slot: Slot) -> bool:
        """Whether a report of this slot is committed already; it is closed once more, and not recorded again."""
        if slot.index in self.recorded:
            self.unclosed[slot.index] = slot
        return slot.index in self.unclosed

    def note(self, row: SlotRow) -> None:
        """Take note of a recorded row; the same one may be noted again."""
        slot = row.report.slot
        if not self.has(slot):
            self.queued_for.pop(slot.index, None)
            self.heard.ended(row.report)
            self.span.saved(slot.index, row.report.delivery)
            self.failed_count += row.report.error is not None
            if row.report.metadata:
                self.written.add(slot.index, row.report.metadata)
        self.unclosed[slot.index] = slot
        self.outstanding.pop(slot.index, None)
        self.sizes.pop(slot.index, None)
        # It was not to blame: it has ended while it waited to run alone.
        self.suspects.pop(slot.index, None)
        if row.is_contribution:
            self.recorded.add(slot.index)
            self.inside.pop(slot.index, None)
        elif row.report.error is not None:
            self.failure = self.failure or row.report

    def item(self, slot: Slot, progress: tuple[bytes, ...]) -> QueuedItem:
        plan = self.plan
        item = plan.item(slot.index).encode()
        known = self.deliveries.known.get(slot, 0)
        tags = plan.item_tags(slot.index) if plan.node.run_on == "orchestrator" else {}
        return QueuedItem(slot, item, plan.item_key(slot.index), progress=progress, deliveries=known, tags=tags)

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
            trace=briefing.trace,
        )

    def opening(self, created_at: str) -> Opening:
        """How the ledger is to begin with it, in a run that was created then."""
        text = self.briefing.to_json()
        return Opening(self.id, self.recorded, text, Briefing.hash_of(text), created_at)

    def _due(self, time: float) -> list[Slot]:
        due = [slot for at, slot in self.deferred.values() if at <= time]
        for slot in due:
            del self.deferred[slot.index]
        return due

    def _new(self, limit: int) -> Iterator[Slot]:
        taken = 0
        while taken < limit:
            index = next(self._next, None)
            if index is None:
                return
            if index not in self.recorded and index not in self.outstanding:
                taken += 1
                yield Slot(self.id, index)
