"""In which states the instances of a fan-out are, as far as their orchestrator knows."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.row import FanOutRow, Loss
from orchestrator.ledger.owner import worker_of
from orchestrator.observers.event import InstanceEvent, InstanceState, Phase
from orchestrator.observers.instance_place import InstancePlace
from orchestrator.observers.voice import STATES, facts_of
from orchestrator.report import Outcome, Report

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame

AT_ONCE = 200
"""So many are told of before others have their turn."""


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
        ended_at = report.started_at + timedelta(seconds=report.duration_seconds)
        self._tell(index, STATES[report.outcome], at=ended_at, **{**facts, "worker": worker_of(report.worker)})
        self._running.pop(index, None)

    def lost(self, loss: Loss) -> None:
        """A delivery ended with its worker."""
        self._tell(loss.slot.index, InstanceState.LOST, delivery=loss.delivery, worker=worker_of(loss.worker))

    def stopped(self, deliveries: Mapping[int, int]) -> None:
        """Nothing more comes of these, which were queued for these deliveries: somebody stopped them."""
        for index in sorted(deliveries):
            self._tell(index, InstanceState.CANCELLED, delivery=deliveries[index])

    async def rolled_forward(self, indexes: Iterable[int]) -> None:
        """These ended in an earlier invocation."""
        for number, index in enumerate(indexes if self.is_wanted else (), 1):
            self._tell(index, InstanceState.CACHED)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _begins(self, index: int, delivery: int) -> bool:
        is_news = self._running.get(index, 0) < delivery
        self._running[index] = delivery
        return is_news

    def _tell(self, index: int, state: InstanceState, **facts: Any) -> None:
        if self.is_wanted:
            self._emitter.emit(self._place.event(index, state, **self._row.names(index), **facts), self._place.path)
