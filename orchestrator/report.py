"""A worker's durable statement of how an instance ended."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import Slot
from orchestrator.metadata import Metadata, read_back
from orchestrator.reading import read_json, refusing, sound

HASH_BYTES = 8
DEFAULT_PAYLOAD_BYTES = 8 * 1024 * 1024
"""What an item or a result may have at most, unless a setting says otherwise."""


class Outcome(StrEnum):
    """How an instance ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Position:
    """A node that was completed inside an instance; `namespace` as in fan-out keys, `step` counted by the instance."""

    namespace: tuple[str, ...]
    node: str
    step: int = 0
    attempt_index: int = 0

    def to_json(self) -> list[Any]:
        return [list(self.namespace), self.node, self.step, self.attempt_index]

    @classmethod
    def from_json(cls, value: list[Any]) -> "Position":
        namespace, *rest = value
        return cls(tuple(namespace), *rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How an instance ended, and who says so.

    `partial` is what the instance contributes, as JSON text of the typed codec: the collected field and every
    extra output. `attempts` counts the tries under retry middleware in this delivery; `delivery` counts the
    deliveries. `token` is the claim's. `folds` are those of recorded fan-outs that ended inside the instance.
    `positions` say how far an instance came that did not succeed. `events` are what observers are told of it, as
    JSON texts, and `metadata` is what was written in it; no store keeps them.
    """

    slot: Slot
    outcome: Outcome
    token: str
    delivery: int
    worker: str
    invocation_id: str
    started_at: datetime
    duration_seconds: float
    attempts: int = 1
    partial: str | None = None
    error: ErrorRecord | None = None
    code_version: str | None = None
    folds: tuple[Fold, ...] = ()
    positions: tuple[Position, ...] = ()
    events: tuple[str, ...] = field(default=(), compare=False)
    metadata: Metadata = field(default_factory=dict, compare=False)

    @property
    def ended_at(self) -> datetime:
        """By the clock of its worker."""
        return self.started_at + timedelta(seconds=self.duration_seconds)

    @property
    def hash(self) -> str:
        """What fan-in folds, in 16 hex digits: equal for equal contributions."""
        error = None if self.error is None else [self.error.category, self.error.message, self.error.type]
        told = json.dumps([self.outcome.value, self.partial, error])
        return blake2b(told.encode(), digest_size=HASH_BYTES).hexdigest()

    def is_larger_than(self, limit_bytes: int) -> bool:
        """Whether its contribution has more bytes than this; a short one is not encoded for it."""
        text = self.partial or ""
        return len(text) * 4 > limit_bytes and len(text.encode("utf-8", "surrogatepass")) > limit_bytes

    def to_json(self) -> bytes:
        fields = {name: getattr(self, name) for name in _PLAIN}
        fields["slot"] = [self.slot.fan_out, self.slot.index, self.slot.generation]
        fields["started_at"] = self.started_at.isoformat()
        fields["error"] = None if self.error is None else self.error.to_json()
        fields["folds"] = [[fold.fan_out, fold.count, fold.hash] for fold in self.folds]
        if self.positions:
            fields["positions"] = [position.to_json() for position in self.positions]
        if self.events:
            fields["events"] = self.events
        if self.metadata:
            fields["metadata"] = dict(self.metadata)
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> "Report":
        """Read a report back.

        Raises:
            ValueError: it is no report.
        """
        with refusing("a report"):
            fields = read_json(text)
            fields["slot"] = Slot(*fields["slot"])
            fields["outcome"] = Outcome(fields["outcome"])
            fields["started_at"] = datetime.fromisoformat(fields["started_at"])
            if fields["error"] is not None:
                fields["error"] = ErrorRecord.from_json(fields["error"])
            fields["folds"] = tuple(Fold(*fold) for fold in fields["folds"])
            fields["positions"] = tuple(Position.from_json(one) for one in fields.get("positions", ()))
            fields["events"] = tuple(fields.get("events", ()))
            fields["metadata"] = read_back(fields.get("metadata", {}))
            return sound(cls(**fields))


_PLAIN = (
    "outcome",
    "token",
    "delivery",
    "worker",
    "invocation_id",
    "duration_seconds",
    "attempts",
    "partial",
    "code_version",
)
