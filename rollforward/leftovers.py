"""What owners that died at their run's very end have left in the ledger."""

import time
from collections.abc import Callable

from orchestrator.checkpoint.protocol import RunStore
from orchestrator.checkpoint.row import RunFilter, RunStatus
from orchestrator.execution.lane import Lane, forget

EVERY_SECONDS = 60.0
MOST_LOOKED_AT = 100

_OVER = frozenset(status for status in RunStatus if status.is_over)


class Leftovers:
    """Takes runs that are over out of the ledger, each once, the latest ones at first."""

    def __init__(self, store: RunStore, lane: Lane, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._lane = lane
        self._clock = clock
        self._looked_at: set[str] = set()
        self._next_at = 0.0

    async def clear(self) -> None:
        """Look after those that have ended since the last time, once a minute.

        Raises:
            CheckpointUnavailable: the store is away.
            LedgerUnavailable: the ledger is.
        """
        if self._clock() < self._next_at:
            return
        self._next_at = self._clock() + EVERY_SECONDS
        over = await self._store.list_runs(RunFilter(statuses=_OVER, limit=MOST_LOOKED_AT))
        for run in over:
            # A run that the ledger knows nothing of is not to leave a tombstone there.
            if run.run_id not in self._looked_at and await self._lane.ledger.epoch(run.run_id):
                await forget(self._lane, run.run_id, run.epoch)
        self._looked_at = {run.run_id for run in over}
