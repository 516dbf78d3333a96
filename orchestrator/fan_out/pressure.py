"""When to stop dispatching because what was done already cannot be put away."""

from collections.abc import Collection

from orchestrator.ledger.protocol import LedgerReader
from orchestrator.ledger.view import Usage

MOST_UNRECORDED_BYTES = 64 * 1024 * 1024
MOST_MEMORY = 0.7
"""The share of the ledger's memory above which nothing new is queued; what runs must still be able to report."""


class Pressure:
    """Whether the ledger has room for more of one run; what it holds already may be queued again all the same."""

    def __init__(self, ledger: LedgerReader, run_id: str) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._usage = Usage(0)
        self._outstanding_bytes = 0
        self._bytes_since = 0

    @property
    def health(self) -> str | None:
        """Why dispatch is paused, in a sentence; None where it is not."""
        usage, used = self._usage, self._usage.used_bytes + self._bytes_since
        if usage.reported_bytes > MOST_UNRECORDED_BYTES:
            return f"dispatch paused: {usage.reported_bytes >> 20} MiB of reports wait to be recorded"
        if usage.limit_bytes and used > MOST_MEMORY * usage.limit_bytes:
            share = used / usage.limit_bytes
            return (
                f"dispatch paused: Redis has used {share:.0%} of its maxmemory; raise it, or give rollforward a Redis "
                "of its own"
            )
        return None

    @property
    def has_room(self) -> bool:
        """Whether one more new item may be queued. Items that wait for a worker are no trouble, only enough."""
        return self.health is None and self._outstanding_bytes + self._usage.reported_bytes <= MOST_UNRECORDED_BYTES

    async def measure(self, fan_outs: Collection[str]) -> None:
        """Look at what waits to be recorded of these, and at how full the ledger is."""
        self._usage = await self._ledger.usage(self._run_id, fan_outs)
        self._bytes_since = 0

    def begin(self, outstanding_bytes: int) -> None:
        """Take note of how many bytes of items are outstanding before more are queued."""
        self._outstanding_bytes = outstanding_bytes

    def add(self, size: int) -> None:
        """Take note that so much is about to be queued."""
        self._outstanding_bytes += size
        self._bytes_since += size
