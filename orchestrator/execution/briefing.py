"""What all instances of one fan-out share, sent once and kept by workers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

from orchestrator.identity import FanOutKey, Level
from orchestrator.metadata import Metadata, read_back
from orchestrator.reading import read_json, refusing, sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefing:
    """Which graph to run, for which invocation, and the inputs that every instance gets.

    `inputs` is the shared part of an instance's first state, as JSON text of the typed codec. `levels` are the nodes
    that enclose the fan-out, as observers know them. `events_wanted` are the phases that an instance is to tell of.
    `trace` is the carrier of the fan-out node's span, `metadata` is what holds there.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    graph: str
    fingerprint: str
    fan_out: FanOutKey
    inputs: str
    instance_count: int
    max_result_bytes: int
    time_limit_seconds: float | None = None
    levels: tuple[Level, ...] = ()
    events_wanted: tuple[str, ...] = ()
    trace: Mapping[str, str] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=dict)

    def to_json(self) -> bytes:
        fields: dict[str, Any] = asdict(self)
        fields["fan_out"] = self.fan_out.to_json()
        if not self.metadata:
            del fields["metadata"]
        return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Briefing":
        """Read a briefing back.

        Raises:
            ValueError: it is no briefing.
        """
        with refusing("a briefing"):
            fields = read_json(text)
            fields["fan_out"] = FanOutKey.from_json(fields["fan_out"])
            fields["events_wanted"] = tuple(fields["events_wanted"])
            fields["levels"] = tuple(Level(**level) for level in fields["levels"])
            fields["metadata"] = read_back(fields.get("metadata", {}))
            return sound(cls(**fields))

    @staticmethod
    def hash_of(text: bytes) -> str:
        return blake2b(text, digest_size=8).hexdigest()
