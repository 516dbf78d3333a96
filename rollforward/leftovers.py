"""What owners that died at their run's very end have left in the ledger."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from orchestrator.checkpoint.protocol import RunStore
from orchestrator.checkpoint.row import Mark, Run, RunFilter, RunOrder, RunStatus
from orchestrator.errors import CheckpointNotFound, Fenced, LedgerLost, OperatorError, RunAmbiguous
from orchestrator.execution.lane import Lane

log = logging.getLogger(__name__)

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
        self._broken: list[str] = []
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
            if run.run_id not in self._looked_at:
                await self._look_after(run)
        if page:
            self._after = self._gone_on_to(_OVER.mark_of(page[-1]), is_last=len(page) < self._page_runs)
        elif self._after is not None and self._after.run_id:
            # The page before this one was full, and the last.
            self._after = _somewhat_before(self._after)
        if len(page) == self._page_runs:
            self._next_at = 0.0
        else:
            self._broken = [run_id for run_id in self._broken if await self._is_still_broken(run_id)]

    async def _look_after(self, run: Run) -> None:
        """Take a run out; a broken one is spoken of, and left for later with a page of such runs at most."""
        try:
            await self._take_out(run)
        except OperatorError:
            raise
        except Exception:
            log.exception("leftovers of a broken run stay", extra={"run_id": run.run_id})
            if len(self._broken) < self._page_runs:
                self._broken.append(run.run_id)
        self._looked_at[run.run_id] = _OVER.mark_of(run).time

    async def _is_still_broken(self, run_id: str) -> bool:
        """Take a broken run out after all, unless it was deleted; false where nothing is left to do."""
        try:
            run = await self._store.find(run_id)
            # Another run may have its id by now, or begin with it.
            if run.run_id == run_id and run.status.is_over:
                await self._take_out(run)
        except OperatorError:
            raise
        except (CheckpointNotFound, RunAmbiguous):
            return False
        except Exception:  # noqa: BLE001 - what is wrong with this run was said the first time
            return True
        return False

    async def _take_out(self, run: Run) -> None:
        # A run that the ledger knows nothing of is not to leave a tombstone there.
        if await self._lane.ledger.epoch(run.run_id):
            with contextlib.suppress(LedgerLost, Fenced):
                await self._lane.ledger.forget(run.run_id, run.epoch)

    def _gone_on_to(self, mark: Mark, *, is_last: bool) -> Mark:
        """Where to go on: somewhat before the last one, for what has ended by then and is seen later."""
        before = _somewhat_before(mark)
        self._looked_at = {id_: ended_at for id_, ended_at in self._looked_at.items() if ended_at >= before.time}
        return before if is_last else mark


def _somewhat_before(mark: Mark) -> Mark:
    return Mark(mark.time - OVERLAP)
