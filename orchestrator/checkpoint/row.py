"""What a checkpoint store keeps, row by row. Rows are appended and never rewritten."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey, Lineage, Slot
from orchestrator.metadata import Metadata
from orchestrator.report import Report


class RunStatus(StrEnum):
    """Where a run stands. A running one whose owner's lease has ended is orphaned."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ORPHANED = "orphaned"

    @property
    def is_over(self) -> bool:
        return self in (RunStatus.SUCCEEDED, RunStatus.CANCELLED)

    @property
    def has_ended(self) -> bool:
        """Whether nobody drives it or waits to; a failed run may be resumed all the same."""
        return self.is_over or self is RunStatus.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run as it is submitted; `state` is its first state, as JSON text of the typed codec."""

    run_id: str
    graph: str
    fingerprint: str
    correlation_id: str
    state: str
    schema_version: str = ""
    code_version: str | None = None
    metadata: Metadata = field(default_factory=dict, hash=False)

    def is_kept_as(self, run: "Run", first_state: str) -> bool:
        """Whether a kept run is this very one, as it was submitted."""
        facts = ("run_id", "graph", "fingerprint", "correlation_id", "schema_version", "code_version", "metadata")
        is_untouched = run.epoch == 0 and run.status is RunStatus.SUBMITTED
        return is_untouched and self.state == first_state and all(getattr(self, f) == getattr(run, f) for f in facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it is kept.

    `invocation_id` is the latest one's; `epoch` is 0 until an orchestrator first owned it; `owner` and
    `lease_until` are those of the last owner; `health` is what the owner says is wrong, in a sentence.
    """

    run_id: str
    graph: str
    fingerprint: str
    correlation_id: str
    status: RunStatus
    epoch: int
    invocation_id: str
    created_at: datetime
    schema_version: str = ""
    code_version: str | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    ended_at: datetime | None = None
    is_cancel_requested: bool = False
    health: str | None = None
    error: ErrorRecord | None = None
    metadata: Metadata = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as somebody saw it who wants to own it: its epoch then, and whether its owner is known to be dead."""

    epoch: int
    has_dead_owner: bool = False


@dataclass(frozen=True, slots=True)
class Ownership:
    """The right to write a run: the epoch is checked inside every write."""

    run_id: str
    invocation_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One completed node, and the state of its graph after it.

    `position` counts the steps of a run from 0, which is its first state (with the empty `node`). `namespace` holds
    the names of the enclosing nodes, without the node's own. `fold` is set by a fan-out node: what fan-in kept.
    `metadata` is what nodes had written by then, in the same invocation or instance.
    """

    position: int
    namespace: tuple[str, ...]
    node: str
    state: str
    step: int = 0
    attempt_index: int = 0
    lineage: Lineage = ()
    invocation_id: str = ""
    schema_version: str = ""
    saved_at: datetime | None = None
    folds: tuple[Fold, ...] = ()
    metadata: Metadata = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOutRow:
    """One entry of a fan-out node.

    `item_hashes` has 8 bytes an item; `item_keys` is None where no key is declared, `item_tags` where no tags are.
    `position` is that of the next step when it was entered: a later step of the same node says that this entry is over,
    whether it was folded or not.
    """

    key: FanOutKey
    instance_count: int
    item_hashes: bytes
    item_keys: tuple[str, ...] | None = None
    item_tags: tuple[dict[str, str], ...] | None = None
    position: int = 0
    opened_at: datetime | None = None
    fold: Fold | None = None

    @property
    def id(self) -> str:
        return self.key.id

    def names(self, index: int) -> dict[str, Any]:
        """What people call an instance: its `key` and its `tags`."""
        keys, tags = self.item_keys, self.item_tags
        return {"key": None if keys is None else keys[index], "tags": {} if tags is None else tags[index]}

    def has_items_of(self, other: "FanOutRow") -> bool:
        """Whether the other was entered with the same items, as far as is known: a seeded one has no hashes."""
        return self.instance_count == other.instance_count and self.item_hashes in (b"", other.item_hashes)


@dataclass(frozen=True, slots=True)
class SlotRow:
    """A recorded report: a contribution, or an error row that a resume runs again (`is_contribution` false).

    Recording a contribution sets the folds of its report on the fan-outs that ended inside the instance.
    """

    report: Report
    is_contribution: bool = True
    key: str | None = None
    recorded_at: datetime | None = None

    @property
    def as_kept(self) -> "SlotRow":
        """The row as stores take it: what observers are told is not kept."""
        told = self.report.events or self.report.metadata
        return replace(self, report=replace(self.report, events=(), metadata={})) if told else self


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerRows:
    """What has happened inside instances that run still: fan-outs entered, nodes completed, contributions made."""

    fan_outs: Sequence[FanOutRow] = ()
    steps: Sequence[Step] = ()
    slots: Sequence[SlotRow] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """A delivery that ended with its worker. `is_charged` where the instance was alone in its process."""

    slot: Slot
    worker: str
    delivery: int
    is_charged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many instances of one fan-out are recorded, by outcome; times are the store's.

    `deliveries` adds up the delivery counts of what is recorded, `losses` counts the deliveries lost.
    """

    fan_out: str
    succeeded: int = 0
    failed: int = 0
    lost: int = 0
    cancelled: int = 0
    deliveries: int = 0
    losses: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def recorded(self) -> int:
        return self.succeeded + self.failed + self.lost + self.cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What the store says when a lease is renewed."""

    is_cancel_requested: bool = False


class RunOrder(StrEnum):
    """Which run comes first in a list: the newest, the oldest, or the first to end of those that have ended."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a list: behind the run that was created, or has ended, at that time."""

    time: datetime
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list, and how.

    `after` goes on where a list by `OLDEST` or `ENDED` has ended, `mark_of` its last run; what is newest may not stay
    so, so a list by `NEWEST` cannot be gone on with.
    """

    statuses: frozenset[RunStatus] = field(default_factory=frozenset)
    graphs: frozenset[str] = field(default_factory=frozenset)
    limit: int = 20
    order: RunOrder = RunOrder.NEWEST
    after: Mark | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.order is RunOrder.NEWEST:
            raise ValueError("a list of the newest runs cannot be gone on with; order it by age or by end")

    @property
    def is_of_open_ones(self) -> bool:
        """Whether it asks for none that has ended."""
        return bool(self.statuses) and not any(status.has_ended for status in self.statuses)

    def mark_of(self, run: Run) -> Mark:
        """The place behind a run of this list."""
        ended_at = run.ended_at if self.order is RunOrder.ENDED else None
        return Mark(ended_at or run.created_at, run.run_id)

    def wants(self, run: Run) -> bool:
        """Whether a run belongs to what is listed."""
        is_one = (not self.statuses or run.status in self.statuses) and (not self.graphs or run.graph in self.graphs)
        has_place = self.order is not RunOrder.ENDED or run.ended_at is not None
        return is_one and has_place and (self.after is None or self.after < self.mark_of(run))
