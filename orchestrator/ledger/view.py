"""What the orchestrator tells the ledger, and what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.bitmap import Bitmap
from orchestrator.identity import Slot


@dataclass(frozen=True, slots=True)
class Opening:
    """A fan-out as the record has it: how many instances, which are recorded, and what all of them share.

    `created_at` is when its run was created, as text: a later run of the same id is told from this one by it.
    """

    fan_out: str
    recorded: Bitmap
    briefing: bytes
    briefing_hash: str
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class QueuedItem:
    """One instance put up for claiming; `item` is its own part of its first state, as JSON text.

    `progress` is what the record has of it from before, which its claims are given beside what the ledger keeps.
    `deliveries` is how many there have been: the next one has a higher number. `tags` go nowhere but to the claims of
    this very process.
    """

    slot: Slot
    item: bytes
    key: str | None = None
    progress: tuple[bytes, ...] = ()
    deliveries: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many bytes of it the ledger keeps, but for its keys."""
        return len(self.item) + sum(map(len, self.progress))


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a ledger is: the bytes of unrecorded reports, and those used of all that it may use, 0 for no limit."""

    reported_bytes: int
    used_bytes: int = 0
    limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What an instance has told: the latest entries, up to number `end`; all where fewer are there than were known.

    The first of them, `repeated` in number, were given to an earlier owner of the run.
    """

    end: int
    entries: tuple[bytes, ...]
    repeated: int = 0


class QueueAnswer(StrEnum):
    """What queueing one item came to: queued, already reported or recorded, or under a live lease."""

    OK = "ok"
    DONE = "done"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Lapse:
    """A delivery that was lost: its lease ended or was released without a report.

    `alone` says that its owner ran no other instance, of this run or of another, and has died, so that this one may be
    to blame. An owner whose lease ended by time counts as dead; one that handed the lease back does not.
    """

    slot: Slot
    owner: str
    delivery: int
    alone: bool
    handed_back: bool = False


@dataclass(frozen=True, slots=True)
class Overdue:
    """A queued slot past its claim deadline; `overtaken` when one queued later was claimed, so its message is lost."""

    slot: Slot
    overtaken: bool


@dataclass(frozen=True, slots=True)
class Declined:
    """A slot that a worker could not run."""

    slot: Slot
    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The outstanding slots that need an act; a slot stands in one of them at most."""

    lapsed: tuple[Lapse, ...] = ()
    overdue: tuple[Overdue, ...] = ()
    declined: tuple[Declined, ...] = ()
    unknown: tuple[Slot, ...] = ()


class LiveState(StrEnum):
    """Where an instance that is not recorded stands."""

    QUEUED = "queued"
    RUNNING = "running"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """An instance that is not recorded yet, as people see it."""

    slot: Slot
    state: LiveState
    delivery: int
    worker: str | None
    key: str | None = None
