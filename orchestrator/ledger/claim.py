"""What a worker asks of the ledger, and what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.identity import Slot


class Verdict(StrEnum):
    """What a claim came to."""

    OK = "ok"
    DONE = "done"
    BUSY = "busy"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Beat(StrEnum):
    """What became of a lease: extended, taken by a later claim, or its work is to be cancelled.

    The last is also the word on what belongs to a run that was forgotten.
    """

    OK = "ok"
    LOST = "lost"
    CANCEL = "cancel"


class Reported(StrEnum):
    """What became of a report: kept; void, as its slot is another's or its run was forgotten; too large to keep."""

    OK = "ok"
    STALE = "stale"
    OVER = "over"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Held:
    """A slot and the token it was claimed under."""

    slot: Slot
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The right to run one instance, and all that is needed to run it.

    `item` is the instance's own part of its first state, as JSON text; `briefing_hash` says which briefing belongs to
    it; `delivery` counts this claim. `tags` are known only where the orchestrator itself runs it.
    """

    run_id: str
    slot: Slot
    token: str
    delivery: int
    item: bytes
    briefing_hash: str
    key: str | None = None
    progress: tuple[bytes, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """The verdict on one slot; `claimed` where it is OK."""

    verdict: Verdict
    claimed: Claimed | None = None
