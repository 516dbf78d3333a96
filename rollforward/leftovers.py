"""What owners that died at their run's very end have left in the ledger."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from orchestrator.checkpoint.protocol import RunStore
from orchestrator.checkpoint.row import Mark, Run, RunFilter, RunOrder, RunStatus
from orchestrator.errors import Fenced, LedgerLost
from orchestrator.execution.lane import Lane

EVERY_SECONDS = 60.0
PAGE_RUNS = 200
OVERLAP = timedelta(minutes=1)
"""How much later than a run's end its outcome may come to be seen: a transaction takes time, and a clock may be set."""

_OVER = RunFilter(statuses=frozenset(status for status in RunStatus if status.is_over), order=RunOrder.ENDED)


class Leftovers:
    """Takes runs that are over out of the ledger, each once, in the order in which they have ended."""

    def __init__(
        self,
        store: RunStore,
        lane: Lane,
        *,
        clock: Callable[[], float] = time.monotonic,
        page_runs: int = PAGE_RUNS,
    ) -> None:
        self._store = store
        self._lane = lane
        self._clock = clock
        self._page_runs = page_runs
        self._after: Mark | None = None
        self._looked_at: dict[str, datetime] = {}
        self._next_at = 0.0

    async def clear(self) -> None:
        """Look after a page of those that have ended since the last time; after the last page, again in a minute.

        Raises:
            CheckpointUnavailable: the store is away.
            LedgerUnavailable: the ledger is.
        """
        if self._clock() < self._next_at:
            return
        # Also where it fails.
        self._next_at = self._clock() + EVERY_SECONDS
        page = await self._store.list_runs(replace(_OVER, after=self._after, limit=self._page_runs))
        for run in page:
            await self._look_after(run)
        if page:
            self._after = self._gone_on_to(_OVER.mark_of(page[-1]), is_last=len(page) < self._page_runs)
        if len(page) == self._page_runs:
            self._next_at = 0.0

    async def _look_after(self, run: Run) -> None:
        if run.run_id in self._looked_at:
            return
        # A run that the ledger knows nothing of is not to leave a tombstone there.
        if await self._lane.ledger.epoch(run.run_id):
            with contextlib.suppress(LedgerLost, Fenced):
                await self._lane.ledger.forget(run.run_id, run.epoch)
        self._looked_at[run.run_id] = _OVER.mark_of(run).time

    def _gone_on_to(self, mark: Mark, *, is_last: bool) -> Mark:
        """Where to go on: somewhat before the last one, for what has ended by then and is seen later."""
        time = mark.time - OVERLAP
        self._looked_at = {run_id: ended_at for run_id, ended_at in self._looked_at.items() if ended_at >= time}
        return Mark(time) if is_last else mark
