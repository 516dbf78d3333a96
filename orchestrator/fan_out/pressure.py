"""When to stop dispatching because what was done already cannot be put away."""

from collections.abc import Iterable

from orchestrator.ledger.protocol import LedgerReader
from orchestrator.report import Report

MOST_UNRECORDED_BYTES = 64 * 1024 * 1024
MOST_MEMORY = 0.7
"""The share of the ledger's memory above which nothing new is queued; what runs must still be able to report."""


class Pressure:
    """Whether dispatch is paused; `health` says why."""

    def __init__(self, ledger: LedgerReader) -> None:
        self.health: str | None = None
        self._ledger = ledger

    @property
    def is_on(self) -> bool:
        return self.health is not None

    async def measure(self, unrecorded: Iterable[Report]) -> None:
        """Look at what waits to be recorded, and at how full the ledger is."""
        waiting = sum(len(report.partial or "") for report in unrecorded)
        share = await self._ledger.memory_share()
        if waiting > MOST_UNRECORDED_BYTES:
            self.health = f"dispatch paused: {waiting >> 20} MiB of reports wait to be recorded"
        elif share > MOST_MEMORY:
            self.health = (
                f"dispatch paused: Redis has used {share:.0%} of its maxmemory; raise it, or give rollforward a Redis "
                "of its own"
            )
        else:
            self.health = None
