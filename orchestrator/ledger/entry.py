"""What a ledger in memory keeps, slot by slot. Whoever reads or writes it holds the ledger's lock."""

import asyncio
import contextlib
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.bitmap import Bitmap
from orchestrator.identity import Slot
from orchestrator.ledger.owner import worker_of
from orchestrator.ledger.view import LiveInstance, LiveState, Progress, QueuedItem
from orchestrator.report import Report


class Stage(StrEnum):
    """Where a slot that is not closed stands."""

    FREE = "free"
    QUEUED = "queued"
    RUNNING = "running"
    REPORTED = "reported"


@dataclass(slots=True)
class Entry:
    """A slot that is not closed.

    `until` is the claim deadline of a queued one and the end of the lease of a running one; `order` is its place in
    the queue. `is_accompanied` says that others of the run were lost, or may be lost, with the same owner;
    `is_in_company` that its owner runs instances of other runs beside it; `is_handed_back` that the owner released it
    alive.
    """

    generation: int
    stage: Stage = Stage.FREE
    delivery: int = 0
    token: str = ""
    owner: str = ""
    until: float = 0.0
    order: int = 0
    queued: QueuedItem | None = None
    report: Report | None = None
    progress: list[bytes] = field(default_factory=list)
    given: int = 0
    given_before: int = 0
    given_to: int = 0
    declined: tuple[str, str] | None = None
    is_released: bool = False
    is_accompanied: bool = False
    is_in_company: bool = False
    is_handed_back: bool = False

    def is_held_under(self, token: str) -> bool:
        """Whether `token` was granted for this slot, and no later claim has replaced it."""
        return self.token == token != "" and self.stage in (Stage.QUEUED, Stage.RUNNING)

    def grant(self, token: str, owner: str, *, until: float, in_company: bool) -> None:
        self.stage, self.token, self.owner, self.until = Stage.RUNNING, token, owner, until
        self.delivery += 1
        self.declined, self.is_released, self.is_accompanied, self.is_handed_back = None, False, False, False
        self.is_in_company = in_company

    def extend(self, until: float, *, in_company: bool) -> None:
        # What was released is for others to take, also while its old holder still works on it.
        if not self.is_released:
            self.stage, self.until, self.is_in_company = Stage.RUNNING, until, in_company

    def release(self, *, has_died: bool) -> None:
        self.until, self.is_released, self.is_handed_back = -math.inf, True, not has_died

    def give(self, epoch: int, start: int) -> Progress:
        """What it has told since then, for the owner with that epoch.

        So many entries were `given` to owners of the run, `given_before` of them to others than the last, `given_to`.
        """
        start = start if start <= len(self.progress) else 0
        if self.given_to != epoch:
            self.given_to, self.given_before = epoch, self.given
        self.given = len(self.progress)
        return Progress(self.given, tuple(self.progress[start:]), max(self.given_before - start, 0))

    @property
    def is_alone(self) -> bool:
        """Whether this slot, now lapsed, may be what its owner died of."""
        return not (self.is_accompanied or self.is_in_company or self.is_handed_back)


@dataclass(slots=True)
class FanOutEntries:
    """One fan-out: what is closed, and the entries of what is not."""

    closed: Bitmap
    briefing: bytes
    briefing_hash: str
    entries: dict[int, Entry] = field(default_factory=dict)
    closed_generations: dict[int, int] = field(default_factory=dict)
    last_order: int = 0
    last_claimed: int = 0
    cancelled_in: int | None = None

    def find(self, slot: Slot) -> Entry | None:
        """The entry of this very generation of a slot."""
        entry = self.entries.get(slot.index)
        return entry if entry is not None and entry.generation == slot.generation else None

    def is_closed(self, slot: Slot) -> bool:
        return (
            0 <= slot.index < self.closed.size
            and slot.index in self.closed
            and slot.generation <= self.closed_generations.get(slot.index, 0)
        )

    def is_over(self, slot: Slot) -> bool:
        """Whether this generation is closed, or a later one has begun."""
        entry = self.entries.get(slot.index)
        return self.is_closed(slot) if entry is None else entry.generation > slot.generation

    def close(self, slot: Slot) -> None:
        self.entries.pop(slot.index, None)
        self.closed.add(slot.index)
        if slot.generation:
            self.closed_generations[slot.index] = slot.generation

    def take_over(self, before: "FanOutEntries") -> None:
        """Keep what `before` knew of slots that are not closed here, and the order of its queue."""
        self.entries = {index: entry for index, entry in before.entries.items() if index not in self.closed}
        self.closed_generations = before.closed_generations
        self.last_order, self.last_claimed = before.last_order, before.last_claimed
        self.cancelled_in = before.cancelled_in

    def live(self, fan_out: str) -> list[LiveInstance]:
        alive = [(index, entry) for index, entry in self.entries.items() if entry.stage is not Stage.FREE]
        alive.sort(key=lambda pair: pair[0])
        return [_live(Slot(fan_out, index, entry.generation), entry) for index, entry in alive]


def _live(slot: Slot, entry: Entry) -> LiveInstance:
    worker = None if entry.stage is Stage.QUEUED else worker_of(entry.owner)
    key = entry.queued.key if entry.queued else None
    return LiveInstance(slot, LiveState(entry.stage.value), entry.delivery, worker, key)


@dataclass(slots=True)
class RunEntries:
    """One run. A cancel flag is in force in the epoch that set it: a later owner decides anew."""

    epoch: int
    fan_outs: dict[str, FanOutEntries] = field(default_factory=dict)
    reported: dict[tuple[str, int], Report] = field(default_factory=dict)
    cancelled_in: int | None = None
    created_at: str = ""
    waiting: dict[asyncio.Future[None], frozenset[str]] = field(default_factory=dict)

    def is_cancelled(self, fan_out: FanOutEntries) -> bool:
        return self.epoch in (self.cancelled_in, fan_out.cancelled_in)

    def reports_of(self, fan_outs: Collection[str]) -> list[Report]:
        return [report for (fan_out, _), report in self.reported.items() if fan_out in fan_outs]

    def wake(self, fan_out: str | None = None) -> None:
        """Wake whoever waits for news of this fan-out, or of any, from any thread."""
        for future in [one for one, wanted in self.waiting.items() if fan_out is None or fan_out in wanted]:
            del self.waiting[future]
            # The loop of one who does not wait any more may be closed.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
