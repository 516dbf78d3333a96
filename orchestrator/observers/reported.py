"""What observers are told of a fan-out's instances: what these told of themselves, and what is durable of them."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

from orchestrator.bitmap import Bitmap
from orchestrator.checkpoint.row import FanOutRow, Loss, Step
from orchestrator.error_record import ErrorRecord
from orchestrator.fan_out.entry import EventsTold, told_with
from orchestrator.graph.enclosing import levels_along
from orchestrator.identity import Lineage
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import Event, InstanceEvent, InstanceLogEvent, Phase, SaveKind
from orchestrator.observers.instance_place import InstancePlace
from orchestrator.observers.instance_states import InstanceStates
from orchestrator.observers.nested_states import NestedStates
from orchestrator.observers.site import boundary_site, node_site
from orchestrator.observers.voice import STATES, facts_of
from orchestrator.report import Report
from orchestrator.wire.event import decode

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Told:
    """What was told of one instance: how often each event, in earlier deliveries and in this one."""

    delivery: int = 0
    before: Counter[Hashable] = field(default_factory=Counter)
    now: Counter[Hashable] = field(default_factory=Counter)
    steps: dict[int, int] = field(default_factory=dict)

    def begin(self, delivery: int) -> None:
        """What comes now was told by this delivery."""
        if delivery != self.delivery:
            self.delivery, self.before, self.now = delivery, self.before | self.now, Counter()
            self.steps.clear()

    def notes(self, event: Event) -> bool:
        """Take note of an event; whether no earlier delivery has told it: one that runs again goes the same way."""
        place = (event.namespace, event.fan_out_index_chain, event.branch_name_chain, event.attempt_index)
        told = (place, event.sameness)
        self.now[told] += 1
        return self.now[told] > self.before[told]

    def step_of(self, own: int, next_step: Callable[[], int]) -> int:
        """The orchestrator's number for a step of the instance's."""
        if own not in self.steps:
            self.steps[own] = next_step()
        return self.steps[own]


class ReportedEvents:
    """Passes on the events of one fan-out's instances, once what they speak of was read by the orchestrator.

    `frame` is the fan-out node's, `state` the one that it was entered with, and `row` the entry. Where instances
    `tell_themselves`, they tell of their own states before they are reported.
    """

    def __init__(self, frame: "Frame", state: Any, row: FanOutRow, *, tell_themselves: bool = False) -> None:
        self._frame = frame
        self._node = row.key.node
        self._state = state
        self._told: dict[int, Told] = {}
        self._states = InstanceStates(frame, row, tell_themselves=tell_themselves)
        self._nested = NestedStates(frame.emitter)

    def rolled_forward(self, indexes: Bitmap, failures: Mapping[int, ErrorRecord]) -> None:
        """These instances ended in an earlier invocation, some of them in a failure."""
        self._states.rolled_forward(indexes, failures)

    def queued(self, index: int, delivery: int) -> None:
        self._states.queued(index, delivery)

    def happened(self, index: int, told: EventsTold) -> None:
        known = self._known(index, told)
        for event, path in self._decoded(index, told, lambda own: known.step_of(own, self._frame.emitter.next_step)):
            if not known.notes(event):
                continue
            if self._is_own(event):
                self._states.told(event)
            elif isinstance(event, InstanceEvent):
                self._nested.told(index, event, path)
            else:
                self._frame.emitter.emit(event, path)

    def repeated(self, index: int, told: EventsTold) -> None:
        known = self._known(index, told)
        for event, path in self._decoded(index, told, lambda own: own):
            known.notes(event)
            if isinstance(event, InstanceLogEvent):
                # Whoever keeps lines knows them by their numbers, and the earlier owner may have kept none of them.
                self._frame.emitter.emit(event, path)
            if self._is_own(event):
                self._states.passed_over(event)

    def completed(self, step: Step) -> None:
        with self._leaving_out_what_is_wrong(step.lineage[0].index if step.lineage else None):
            node_site(self._inside(step.namespace, step.lineage), step.node).saved(SaveKind.NODE)

    def contributed(self, fan_out: FanOutRow, report: Report) -> None:
        key, index = fan_out.key, report.slot.index
        path = (*key.namespace, key.node)
        with self._leaving_out_what_is_wrong(index):
            inside = self._inside(path, key.enclosing(index))
            boundary_site(inside).saved(SaveKind.INSTANCE)
            if self._states.is_wanted:
                place = InstancePlace.of(inside, path, inside.levels[:-1])
                facts = {**facts_of(report), **fan_out.names(index), "at": report.ended_at}
                outer = key.lineage[len(self._frame.lineage)].index
                self._nested.told(outer, place.event(index, STATES[report.outcome], **facts), path)

    def ended(self, report: Report) -> None:
        index = report.slot.index
        self._states.begun(report)
        if report.events:
            self.happened(index, told_with(report))
        self._told.pop(index, None)
        self._nested.left_by(index)
        if self._frame.emitter.wants(Phase.CHECKPOINT_SAVED):
            boundary_site(self._frame.at_instance(self._node, index, self._state)).saved(SaveKind.INSTANCE)
        self._states.ended(report)

    def lost(self, loss: Loss) -> None:
        self._states.lost(loss)

    def stopped(self, deliveries: Mapping[int, int], workers: Mapping[int, str]) -> None:
        for index in deliveries:
            self._nested.left_by(index)
        self._states.stopped(deliveries, workers)

    def _is_own(self, event: Event) -> TypeGuard[InstanceEvent]:
        """Whether it is of the state of an instance of this very fan-out."""
        return isinstance(event, InstanceEvent) and len(event.namespace) == len(self._frame.levels) + 1

    def _known(self, index: int, told: EventsTold) -> Told:
        known = self._told.setdefault(index, Told())
        known.begin(told.delivery)
        return known

    def _decoded(self, index: int, told: EventsTold, step_of: Callable[[int], int]) -> Iterator[tuple[Event, Path]]:
        frame = self._frame
        invoked = {
            "run_id": frame.run_id,
            "invocation_id": told.invocation_id,
            "correlation_id": frame.correlation_id,
        }
        for text in told.events if frame.emitter.wanted else ():
            with self._leaving_out_what_is_wrong(index):
                parents = (*frame.parents, self._state)
                yield decode(text, frame.root, invoked=invoked, parents=parents, step_of=step_of)

    @contextmanager
    def _leaving_out_what_is_wrong(self, index: int | None) -> Iterator[None]:
        """Observers miss what a worker tells that is no event of this graph; the run goes on."""
        try:
            yield
        except (ValueError, LookupError) as error:
            log.error("event refused", extra={"run_id": self._frame.run_id, "index": index, "reason": str(error)})

    def _inside(self, path: tuple[str, ...], lineage: Lineage) -> "Frame":
        """The frame of a place inside an instance, as far as a save tells of it."""
        levels = levels_along(self._frame.root, path, [one.index for one in lineage])
        return replace(self._frame, namespace=path, levels=levels)
