"""What an instance has got so far: kept in the ledger while it runs, found again by its next delivery."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from orchestrator.errors import LedgerUnavailable
from orchestrator.fan_out.entry import NestedReported, first_state_hash, read_entries
from orchestrator.identity import Slot
from orchestrator.ledger.claim import Claimed, Held
from orchestrator.report import Report

log = logging.getLogger(__name__)

Keep = Callable[[str, Held, Sequence[bytes]], bool]
"""The ledger's `progress`."""


class Kept:
    """The nested results of one delivery of an outer instance, and those of the deliveries before it.

    What is added is sent from a thread, and all that is added meanwhile goes with the next call: thousands of quick
    nested instances need few calls, and none holds the loop up. What is lost on the way is run again. Without `keep`
    nothing is added: where leases never end, there is no next delivery.
    """

    def __init__(self, outer: Claimed, keep: Keep | None, *, max_entry_bytes: int) -> None:
        self._run_id = outer.run_id
        self._held = Held(outer.slot, outer.token)
        self._keep = keep
        self._max_entry_bytes = max_entry_bytes
        self._found = {(one.report.slot, one.first_state): one.report for one in read_entries(outer.progress)}
        self._waiting: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None

    def find(self, slot: Slot, item: bytes, inputs: str) -> Report | None:
        """How this nested instance ended in an earlier delivery; None where it began with another state."""
        return self._found.get((slot, first_state_hash(item, inputs))) or self._found.get((slot, None))

    def add(self, report: Report, item: bytes, inputs: str) -> None:
        """Keep how a nested instance ended, soon. What is over the limit is not kept, so that it is run again."""
        if self._keep is None:
            return
        entry = NestedReported(first_state_hash(item, inputs), report).to_json()
        if len(entry) > self._max_entry_bytes:
            return
        self._waiting.append(entry)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def settled(self) -> None:
        """Wait until all that was added is kept, or is given up."""
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        assert self._keep is not None
        while self._waiting:
            entries, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._keep, self._run_id, self._held, entries)
            except LedgerUnavailable as error:
                log.warning("progress not kept", extra={"run_id": self._run_id, "error": str(error)})
