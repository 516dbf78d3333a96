"""What brings instances to where they run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.tracing.span import Carrier


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Word that an instance is queued in the ledger; it holds ids only, may be lost, doubled or late.

    `label` and `key` are what people read in Flower; `queue` is the user's own, where the fan-out names one;
    `trace` is what its instances are traced by.
    """

    run_id: str
    fan_out: str
    index: int
    generation: int
    graph: str
    fingerprint: str
    label: str
    key: str | None = None
    queue: str | None = None
    trace: Carrier = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many instances the live workers that have a graph can run at once, and how many of those places are free."""

    slots: int
    free: int


class Executor(Protocol):
    """Brings instances to where they run: this process, or Celery workers."""

    async def dispatch(self, hints: Sequence[Hint]) -> None:
        """Pass the word for instances that are queued in the ledger.

        Raises:
            BrokerUnavailable: some may not have been passed; all may be passed again.
        """

    async def capacity(self, graph: str, fingerprint: str) -> Capacity:
        """What the live workers that have this graph can take. Cheap: asked at every turn."""

    async def cancel(self, run_id: str, fan_out: str | None = None) -> None:
        """Stop what runs of a fan-out, or of the whole run, in this process; workers learn it from the ledger."""

    async def close(self) -> None:
        """Let go of connections and of what still runs in this process."""
