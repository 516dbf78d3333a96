"""What observers have in common that write rows to a store."""

from typing import Any, Protocol

from orchestrator.metrics.meter import Meter
from orchestrator.observers.outbox import Outbox


class Closable(Protocol):
    """A store that is closed with its observer."""

    async def close(self) -> None:
        """Let go of it."""


class WritingObserver:
    """An observer whose rows go through an outbox: what became of them, and its end."""

    def __init__(self, store: Closable, outbox: Outbox[Any]) -> None:
        self._closable = store
        self._outbox = outbox

    def count_by(self, meter: Meter) -> None:
        """Count what is dropped by this meter too."""
        self._outbox.count_by(meter)

    @property
    def dropped(self) -> int:
        """How many rows were given up."""
        return self._outbox.dropped

    @property
    def loss(self) -> str | None:
        """How many were given up and why, in a sentence; None where none were."""
        return self._outbox.loss

    @property
    def health(self) -> str | None:
        """Why rows wait; None while they can be written."""
        return self._outbox.health

    async def flush(self) -> None:
        """Write what waits, or leave it for later where that does not succeed."""
        await self._outbox.flush()

    async def close(self) -> None:
        """Write what waits for the last time, and close the store."""
        await self._outbox.close()
        await self._closable.close()
