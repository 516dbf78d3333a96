"""In which states the instances of a fan-out are, as far as their orchestrator knows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import FanOutRow, Loss
from orchestrator.error_record import ErrorRecord
from orchestrator.ledger.owner import worker_of
from orchestrator.observers.event import InstanceEvent, InstanceState, Phase
from orchestrator.observers.instance_place import InstancePlace
from orchestrator.observers.voice import STATES, facts_of
from orchestrator.report import Outcome, Report

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame


class InstanceStates:
    """Tells observers of the states of one fan-out's instances, each once in a delivery.

    `row` knows what people call them. Those that `tell_themselves` have told that they run before they are reported.
    """

    def __init__(self, frame: "Frame", row: FanOutRow, *, tell_themselves: bool) -> None:
        self.is_wanted = frame.emitter.wants(Phase.INSTANCE)
        self._emitter = frame.emitter
        self._row = row
        self._place = InstancePlace.of(frame, (*row.key.namespace, row.key.node), frame.levels)
        self._tell_themselves = tell_themselves
        self._running: dict[int, int] = {}

    def queued(self, index: int, delivery: int) -> None:
        """It waits for that delivery."""
        self._tell(index, InstanceState.QUEUED, delivery=delivery)

    def told(self, event: InstanceEvent) -> None:
        """Pass on what an instance of the fan-out told of itself."""
        index = event.fan_out_index_chain[-1]
        assert index is not None
        if event.state is not InstanceState.RUNNING or self._begins(index, event.delivery):
            told = replace(event, invocation_id=self._place.invocation_id, **self._row.names(index))
            self._emitter.emit(told, self._place.path)

    def passed_over(self, event: InstanceEvent) -> None:
        """Take note of what was told to an earlier owner of the run."""
        index = event.fan_out_index_chain[-1]
        if event.state is InstanceState.RUNNING and index is not None:
            self._begins(index, event.delivery)

    def begun(self, report: Report) -> None:
        """It has run, says its report; one that was quick has told nothing of it before."""
        has_run = report.outcome is not Outcome.LOST and report.attempts > 0
        if has_run and not self._tell_themselves and self._begins(report.slot.index, report.delivery):
            begun = {"delivery": report.delivery, "worker": report.worker, "started_at": report.started_at}
            self._tell(report.slot.index, InstanceState.RUNNING, at=report.started_at, **begun)

    def ended(self, report: Report) -> None:
        """Its report is recorded."""
        index, facts = report.slot.index, facts_of(report)
        self._tell(index, STATES[report.outcome], at=report.ended_at, **{**facts, "worker": worker_of(report.worker)})
        self._running.pop(index, None)

    def lost(self, loss: Loss) -> None:
        """A delivery ended with its worker."""
        self._tell(loss.slot.index, InstanceState.LOST, delivery=loss.delivery, worker=worker_of(loss.worker))

    def stopped(self, deliveries: Mapping[int, int], workers: Mapping[int, str]) -> None:
        """Nothing more comes of these, which were queued for these deliveries: somebody stopped them."""
        for index in sorted(deliveries):
            worker = worker_of(workers[index]) if index in workers else None
            self._tell(index, InstanceState.CANCELLED, delivery=deliveries[index], worker=worker)

    def rolled_forward(self, indexes: Bitmap, failures: Mapping[int, ErrorRecord]) -> None:
        """These ended in an earlier invocation, some of them in a failure that was collected."""
        if self.is_wanted:
            now, told = datetime.now(UTC), indexes.copy()
            cached = (self._event(index, InstanceState.CACHED, at=now, error=failures.get(index)) for index in told)
            self._emitter.emit_many(cached, self._place.path, count=len(indexes))

    def _begins(self, index: int, delivery: int) -> bool:
        is_news = self._running.get(index, 0) < delivery
        self._running[index] = delivery
        return is_news

    def _tell(self, index: int, state: InstanceState, **facts: Any) -> None:
        if self.is_wanted:
            self._emitter.emit(self._event(index, state, **facts), self._place.path)

    def _event(self, index: int, state: InstanceState, **facts: Any) -> InstanceEvent:
        return self._place.event(index, state, **self._row.names(index), **facts)
