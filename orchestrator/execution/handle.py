"""What the caller holds of a run that is being driven here."""

import asyncio
import contextlib
from typing import Generic

from typing_extensions import TypeVar

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import RunCancelled
from orchestrator.execution.drive import Drive
from orchestrator.execution.status import Progress
from orchestrator.state import State

StateT = TypeVar("StateT", bound=State, default=State)


class RunHandle(Generic[StateT]):
    """A run that is being driven in this process, or that was over already."""

    def __init__(
        self, run_id: str, invocation_id: str, task: asyncio.Task[StateT], drive: Drive[StateT] | None = None
    ) -> None:
        self.run_id = run_id
        self.invocation_id = invocation_id
        self._task = task
        self._drive = drive

    async def result(self) -> StateT:
        """Wait for the end and give the last state; waiting may be given up without ending the run.

        Raises:
            GraphError: a step failed; the run can be resumed.
            RunCancelled, Fenced: the run was cancelled, or is another's.
        """
        return await asyncio.shield(self._task)

    @property
    def is_driven_here(self) -> bool:
        """Whether this process became the run's owner; false where the run was over and its handle gives the result."""
        return self._drive is not None

    def is_over(self) -> bool:
        return self._task.done()

    def status(self) -> Progress:
        """How far the run is."""
        if self._drive is None:
            return Progress(status=RunStatus.SUCCEEDED, health=None, fan_outs=())
        return Progress(status=self._drive.status, health=self._drive.health, fan_outs=self._drive.counts)

    async def cancel(self) -> None:
        """Cancel the run: nothing new starts, what runs is told, what is recorded stays."""
        if self._drive is not None:
            self._drive.stop(RunCancelled(self.run_id))
        await self._settled()
        if not self._task.cancelled():
            # Asked for here, since whoever cancels may know enough: the loop warns of an error nobody asks for.
            self._task.exception()

    async def detach(self) -> None:
        """Give the run up, for another to take; what workers run goes on and is recorded by its next owner."""
        if self._drive is not None:
            self._drive.leave()
        self._task.cancel()
        await self._settled()

    async def _settled(self) -> None:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.wait({self._task})
