"""One invocation of a run, from taking it up to giving it up."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from orchestrator.checkpoint.migration import load_state
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.checkpoint.row import Ownership, Run, RunStatus
from orchestrator.context import InstanceContext, entered
from orchestrator.crashpoint import crashpoint
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import Fenced, LedgerLost, OperatorError, RollforwardError, RunCancelled
from orchestrator.execution.cancelling import ended
from orchestrator.execution.frame import Frame
from orchestrator.execution.journal import RunJournal
from orchestrator.execution.lane import Lane, Options, forget
from orchestrator.execution.lease import keep_lease
from orchestrator.execution.patience import Patience
from orchestrator.execution.recorded import RecordedFanOuts
from orchestrator.execution.status import FanOutCount
from orchestrator.execution.stepping import stepping_lane
from orchestrator.execution.walk import walk
from orchestrator.fan_out.inner import InnerRecords
from orchestrator.fan_out.recorder import Recorder
from orchestrator.ledger.claim import Held
from orchestrator.metrics import metric
from orchestrator.middleware.cause_chain import error_record
from orchestrator.observers.delivery import Delivery
from orchestrator.observers.draining import know
from orchestrator.observers.emitter import Emitter, Unheard
from orchestrator.observers.event import InvocationEvent, InvocationState, Phase
from orchestrator.observers.listeners import Listeners
from orchestrator.observers.observation import Observation
from orchestrator.observers.site import outside_nodes
from orchestrator.state import State
from orchestrator.tracing.current import within
from orchestrator.tracing.span import CANCELLED, NO_SPAN, Span

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

StateT = TypeVar("StateT", bound=State, default=State)

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 3.0

_CAME_TO = {
    RunStatus.SUCCEEDED: InvocationState.SUCCEEDED,
    RunStatus.FAILED: InvocationState.FAILED,
    RunStatus.CANCELLED: InvocationState.CANCELLED,
}


class Drive(Generic[StateT]):
    """Drives one run under one epoch; `drive` is called once."""

    def __init__(
        self,
        store: CheckpointStore,
        lane: Lane,
        options: Options,
        *,
        run: Run,
        graph: "Graph[StateT]",
        own: Ownership,
        observation: Observation,
    ) -> None:
        self._store = store
        self._lane = lane
        self._options = options
        self._run = run
        self._graph = graph
        self._own = own
        self._observation = observation.beside(Observation(tracing=graph.tracing))
        self._span: Span = NO_SPAN
        self._patience = Patience()
        self._recorders: dict[str, Recorder] = {}
        self._fan_outs: RecordedFanOuts | None = None
        self._task: asyncio.Task[object] | None = None
        self._walking: asyncio.Task[StateT] | None = None
        self._is_left = False
        self._stopped_by: RollforwardError | None = None
        self._listeners = Listeners(graph, self._observation.subscriptions)
        self._emitter: Emitter = Unheard()
        self._came_to = InvocationState.LEFT
        self.status = RunStatus.RUNNING

    @property
    def health(self) -> str | None:
        """What the run waits for, or else what those who look at it do."""
        return self._pause or self._listeners.health

    @property
    def _pause(self) -> str | None:
        told = (self._patience.health, *(recorder.health for recorder in self._recorders.values()))
        return next((health for health in told if health is not None), None)

    def _told_health(self) -> str | None:
        self._options.meter.set(metric.PAUSED, int(self._pause is not None), (self._graph.name,), of=self)
        return self.health

    @property
    def counts(self) -> tuple[FanOutCount, ...]:
        return () if self._fan_outs is None else self._fan_outs.counts()

    def stop(self, reason: RollforwardError) -> None:
        """End the drive for a reason that is not the graph's own."""
        self._stopped_by = self._stopped_by or reason
        self._is_left = self._is_left or not isinstance(reason, RunCancelled)
        if self._walking is not None:
            self._walking.cancel()

    def leave(self) -> None:
        """Say that the drive is about to be given up for another to take: what runs in workers goes on."""
        self._is_left = True

    def _is_given_up(self) -> bool:
        """Whether the run is left for another to take: somebody said so, or this drive itself is being cancelled."""
        return self._is_left or (self._task is not None and self._task.cancelling() > 0)

    async def drive(self) -> StateT:
        """Step the graph to its end and give the run up with what it came to.

        Raises:
            GraphError: a step failed; the run can be resumed.
            RunCancelled, Fenced: the run was cancelled, or is another's.
        """
        # All that is begun in here belongs to the run, and what it logs says so.
        with entered(self._context()):
            return await self._driven()

    async def _driven(self) -> StateT:
        self._task = asyncio.current_task()
        lease = asyncio.create_task(
            keep_lease(self._store, self._own, self._options, health=self._told_health, stop=self.stop)
        )
        try:
            state = await self._walked()
        except BaseException as error:
            self._span.end(CANCELLED if isinstance(error, asyncio.CancelledError) else error_record(error))
            await self._give_up(error)
            raise
        else:
            self._span.end()
            await self._end(RunStatus.SUCCEEDED)
            return state
        finally:
            self._tell(self._came_to)
            await ended(lease)

    async def _walked(self) -> StateT:
        self._walking = asyncio.create_task(self._walk())
        if self._stopped_by is not None:
            self._walking.cancel()
        try:
            return await self._walking
        except asyncio.CancelledError:
            if self._stopped_by is None:
                raise
            raise self._stopped_by from None
        finally:
            await self._stop_walking(self._walking)

    async def _stop_walking(self, walking: asyncio.Task[StateT]) -> None:
        """End all that this drive has begun, before the run is given up: nothing of it may come after that."""
        walking.cancel()
        # A node that does not heed its cancellation is left behind; what it writes is fenced.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(walking, return_exceptions=True), GIVE_UP_SECONDS)
        await asyncio.gather(*(one.close() for one in self._recorders.values()), return_exceptions=True)

    async def _walk(self) -> StateT:
        steps = await self._patience.until_done(lambda: self._store.steps(self._run.run_id))
        rows = await self._patience.until_done(lambda: self._store.fan_outs(self._run.run_id))
        is_after_end = self._run.status.has_ended
        journal = RunJournal(
            self._store, self._own, self._patience, steps=steps, fan_outs=rows, is_after_end=is_after_end
        )
        self._fan_outs = RecordedFanOuts(
            self._store,
            self._own,
            self._options,
            journal=journal,
            patience=self._patience,
            recorders=self._recorders,
            forget=self._forget,
        )
        emitter = self._delivery(step=journal.next_step)
        self._emitter = emitter
        self._tell(InvocationState.STARTED)
        frame = self._frame(journal, emitter)
        stepping = stepping_lane(frame, self._options, keep=self._keep_inside)
        for run_on, lane in (("workers", self._lane), ("orchestrator", stepping)):
            self._recorders[run_on] = self._recorder(lane, journal)
        try:
            self._span = self._observation.tracing.invocation(frame)
            with within(self._span):
                first = load_state(self._graph, steps[0].state, steps[0].schema_version, self._graph.migrations)
                last: StateT = await walk(self._graph, first, frame)
                return last
        finally:
            await stepping.executor.close()

    def _recorder(self, lane: Lane, journal: RunJournal) -> Recorder:
        return Recorder(
            lane,
            self._store,
            self._own,
            self._options,
            inner=InnerRecords(lane.ledger, self._store, journal, self._own),
            created_at=self._run.created_at.isoformat(),
            is_left=self._is_given_up,
        )

    async def _keep_inside(self, _run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        return await self._recorders["orchestrator"].keep_inside(held.slot, entries)

    def _context(self) -> InstanceContext:
        return InstanceContext(
            run_id=self._run.run_id,
            invocation_id=self._own.invocation_id,
            correlation_id=self._run.correlation_id,
            metadata=self._run.metadata,
        )

    def _delivery(self, *, step: int) -> Delivery:
        """The queue of this invocation's events, which outlives it until all is told."""
        with outside_nodes():
            delivery = Delivery(self._listeners.of, wanted=self._listeners.wanted, step=step)
        know(self._own.invocation_id, delivery)
        self._graph.deliveries.add(delivery)
        return delivery

    def _frame(self, journal: RunJournal, emitter: Delivery) -> Frame:
        assert self._fan_outs is not None
        return Frame(
            run_id=self._run.run_id,
            invocation_id=self._own.invocation_id,
            correlation_id=self._run.correlation_id,
            root=self._graph,
            journal=journal,
            fan_outs=self._fan_outs,
            emitter=emitter,
            tracing=self._observation.tracing,
        )

    async def _give_up(self, error: BaseException) -> None:
        match error:
            case Fenced():
                log.warning("fenced", extra={"run_id": self._run.run_id, "epoch": self._own.epoch})
            case RunCancelled():
                await self._cancel_instances()
                await self._end(RunStatus.CANCELLED)
            case Exception():
                await self._end(RunStatus.FAILED, error_record(error))
            case _:
                # Where the store is away, the lease ends by itself; whoever leaves must not be kept.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._end(RunStatus.SUBMITTED), GIVE_UP_SECONDS)

    async def _end(self, status: RunStatus, error: ErrorRecord | None = None) -> None:
        """Write how the invocation ended, then let the ledger go where nothing can follow."""
        await self._patience.until_done(lambda: self._store.finish(self._own, status, error=error))
        self.status, self._came_to = status, _CAME_TO.get(status, InvocationState.LEFT)
        if status.is_over:
            crashpoint("after_outcome_before_tombstone")
            await self._forget()

    def _tell(self, state: InvocationState) -> None:
        if self._emitter.wants(Phase.INVOCATION):
            event = InvocationEvent(
                run_id=self._run.run_id,
                invocation_id=self._own.invocation_id,
                correlation_id=self._run.correlation_id,
                graph=self._graph.name,
                state=state,
            )
            self._emitter.emit(event, ())

    async def _cancel_instances(self) -> None:
        await self._lane.executor.cancel(self._run.run_id)
        with contextlib.suppress(OperatorError, LedgerLost, Fenced):
            await self._lane.ledger.cancel(self._run.run_id, self._own.epoch)

    async def _forget(self, fan_out: str | None = None) -> None:
        await forget(self._lane, self._run.run_id, self._own.epoch, fan_out=fan_out)
