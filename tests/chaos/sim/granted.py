"""What a right ledger would know of claims; it is lost and rolled back together with the ledger."""

from copy import copy
from dataclasses import dataclass, field, replace

from orchestrator.identity import Slot


@dataclass(slots=True)
class Grant:
    """The claim in force on a slot."""

    token: str
    owner: str
    delivery: int
    until: float
    is_released: bool = False
    is_reported: bool = False

    def is_live(self, now: float) -> bool:
        return not (self.is_released or self.is_reported) and self.until > now


@dataclass(slots=True)
class Granted:
    """Every claim in force, and what came with it.

    `up` are the slots that can be claimed; `cancelled` holds a run or fan-out with the epoch that said so.
    """

    latest: dict[Slot, Grant] = field(default_factory=dict)
    deliveries: dict[Slot, int] = field(default_factory=dict)
    kept: dict[Slot, frozenset[str]] = field(default_factory=dict)
    up: set[Slot] = field(default_factory=set)
    cancelled: frozenset[tuple[str, int]] = frozenset()
    epoch: int = 0

    def copy(self) -> "Granted":
        latest = {slot: copy(grant) for slot, grant in self.latest.items()}
        return replace(self, latest=latest, deliveries=dict(self.deliveries), kept=dict(self.kept), up=set(self.up))

    def is_cancelled(self, run_id: str, slot: Slot) -> bool:
        return bool({(run_id, self.epoch), (slot.fan_out, self.epoch)} & self.cancelled)

    def free(self, slot: Slot) -> None:
        """Its claim is over; its deliveries count on."""
        self.latest.pop(slot, None)
        self.up.discard(slot)
        self.kept.pop(slot, None)

    def drop(self, slot: Slot) -> None:
        """Nothing is known of it any more."""
        self.free(slot)
        self.deliveries.pop(slot, None)
