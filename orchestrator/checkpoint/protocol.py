"""The durable state of a run, and who may write it.

A backend implements all three protocols in one class. Each method is one transaction, durable once it returns.
Every write of an owner checks the epoch inside its own transaction.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Protocol

from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import (
    FanOutRow,
    InnerRows,
    Loss,
    NewRun,
    Ownership,
    Renewal,
    Run,
    RunFilter,
    RunStatus,
    Seen,
    SlotRow,
    Step,
    Tally,
)
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CallerError
from orchestrator.identity import Slot


class RecordOutdated(CallerError):
    """The record of a run is older than its ledger: the database was restored from a backup."""

    category = "checkpoint_outdated"

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"the ledger knows a later owner of run {run_id} than its record does: the database is older than it was. "
            f"Restore a later one, or run again what it lacks: `rollforward resume {run_id} --accept-older-record`"
        )


class RunIsOver(CallerError):
    """The run has succeeded or was cancelled: there is nothing left to drive."""

    category = "run_is_over"

    def __init__(self, run_id: str, status: RunStatus) -> None:
        self.run_id = run_id
        self.status = status
        super().__init__(f"run {run_id} has ended already: {status}")


class RunStore(Protocol):
    """The runs of a deployment, and who owns each.

    Raises, from every method:
        CheckpointUnavailable: the store cannot be reached, or refuses writes; the call may be made again.
    """

    async def create(self, run: NewRun) -> Run:
        """Keep a submitted run with its first state (the step at position 0).

        The same run again, while nobody has taken it up, is answered as it was the first time.

        Raises:
            RunExists: another run of that id is kept.
        """

    async def acquire(
        self,
        run_id: str,
        owner: str,
        *,
        invocation_id: str,
        lease: timedelta,
        seen: Seen | None = None,
        fingerprint: str | None = None,
    ) -> Ownership:
        """Become the owner of a run that nobody owns, or whose owner's lease has ended: raise its epoch by one.

        `seen` is how the caller saw the run: it is not acquired where another has owned it since, and the lease of an
        owner that is known to be dead is not waited for. The run is running under `invocation_id` from now on (the
        run's first invocation has the run's own id). `fingerprint` moves the run to another version of its graph.

        Raises:
            CheckpointNotFound: no such run.
            RunIsDriven: another owner's lease is live, or another has owned the run since it was seen.
            RunIsOver: the run has succeeded or was cancelled.
        """

    async def renew(self, ownership: Ownership, *, lease: timedelta, health: str | None = None) -> Renewal:
        """Extend the lease, and keep what the owner says is wrong.

        Raises:
            Fenced: another orchestrator owns the run.
        """

    async def finish(self, ownership: Ownership, status: RunStatus, *, error: ErrorRecord | None = None) -> None:
        """Give the run up with this status: succeeded, failed, cancelled, or submitted (for another to take).

        Raises:
            Fenced: another orchestrator owns the run.
        """

    async def find(self, run_id: str) -> Run:
        """The run of this id, of this invocation's id, or with this unique prefix of a run id.

        Raises:
            CheckpointNotFound: no such run.
            RunAmbiguous: several runs have this prefix.
        """

    async def list_runs(self, which: RunFilter) -> list[Run]:
        """The runs that pass the filter, in its order.

        Every run that is there from the first page of a list to its last is on one of the pages. Where many runs are
        kept, a page of open ones by age, or of ended ones by end, costs as much as where few are.
        """

    async def request_cancel(self, run_id: str) -> Run:
        """Ask the owner to cancel; a run that no live owner drives and that is not over is cancelled at once."""

    async def delete(self, run_id: str) -> None:
        """Forget a run and everything of it; nothing happens where there is none."""


class Checkpointer(Protocol):
    """What the owner of a run writes.

    Raises, from every write:
        Fenced: another orchestrator owns the run; nothing was written.
        CheckpointUnavailable: nothing is known; the same call may be made again.
    """

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        """Append a completed node with the state after it, and set its folds on their fan-outs.

        A step whose position is already kept is left as it is.
        """

    async def open_fan_out(self, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        """Keep the entry of a fan-out node, unless it is kept; the answer is what is kept."""

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        """Record reports, unless their slots are already recorded; the first contribution of a slot wins.

        Error rows are kept beside the contributions, the latest of a slot.

        Returns:
            How many contributions were the first of their slot.
        """

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        """Keep what has happened inside instances that run still: each as its own method would, the fan-outs first."""

    async def record_losses(self, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        """Keep lost deliveries (one row a slot and delivery), and say how many charged ones each slot has now."""

    async def load(self, run_id: str) -> CheckpointRecord | None:
        """Compose the whole record of a run; None where there is none."""

    async def seed(self, record: CheckpointRecord) -> None:
        """Take a whole record apart into rows, as the record of a run that nobody owns."""


class RecordReader(Protocol):
    """What resume, `verify` and people read. Rows come in index order; of a slot, only the latest generation."""

    async def steps(self, run_id: str) -> list[Step]:
        """The completed nodes of a run by position, the first state before them."""

    async def fan_outs(self, run_id: str) -> list[FanOutRow]:
        """The fan-outs that were entered, in that order."""

    def slots(self, run_id: str, fan_out: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[SlotRow]:
        """The contributions with `start <= index < stop`, read piece by piece."""

    def errors(self, run_id: str, fan_out: str) -> AsyncIterator[SlotRow]:
        """The error rows of slots that have no contribution of the same or a later generation."""

    async def tally(self, run_id: str, fan_out: str) -> Tally:
        """How many contributions there are."""

    async def losses(self, run_id: str, fan_out: str) -> list[Loss]:
        """The deliveries that ended with their worker."""


class CheckpointStore(RunStore, Checkpointer, RecordReader, Protocol):
    """All three powers, as every backend has them."""

    async def close(self) -> None:
        """Let connections go; nothing may be called afterwards."""
