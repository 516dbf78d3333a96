"""What observers hear of an instance that tells something twice, or told it to an earlier owner of its run."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.capture.line import LogLine, LogStream
from orchestrator.checkpoint.row import FanOutRow
from orchestrator.execution.frame import Frame
from orchestrator.fan_out.entry import EventsTold
from orchestrator.identity import FanOutKey
from orchestrator.observers.emitter import Collected
from orchestrator.observers.event import InstanceLogEvent, NodeEvent, Phase
from orchestrator.observers.reported import ReportedEvents
from orchestrator.wire.event import encode
from tests.graph.tiny import graph
from tests.graph.waiting import Piece, Whole

INDEX = 3


def text(phase: Phase, attempt: int, *, step: int = 0) -> str:
    event = NodeEvent(
        run_id="r",
        invocation_id="i",
        correlation_id="c",
        namespace=("pieces", "work"),
        fan_out_index_chain=(INDEX,),
        branch_name_chain=(None,),
        attempt_index=attempt,
        step=step,
        phase=phase,
        pre_state=Piece(number=INDEX),
        post_state=Piece(number=INDEX) if phase is Phase.COMPLETED else None,
    )
    return encode(event, ("pieces",))


def lines(first_number: int, *texts: str, source: str = "s") -> str:
    event = InstanceLogEvent(
        run_id="r",
        invocation_id="i",
        correlation_id="c",
        namespace=("pieces",),
        fan_out_index_chain=(INDEX,),
        branch_name_chain=(None,),
        delivery=1,
        worker="w",
        source=source,
        first_number=first_number,
        lines=tuple(LogLine(stream=LogStream.STDOUT, text=one, at=datetime(2026, 1, 1, tzinfo=UTC)) for one in texts),
    )
    return encode(event, ("pieces",))


BEGUN, ENDED = text(Phase.STARTED, 0), text(Phase.COMPLETED, 0)
BEGUN_AGAIN = text(Phase.STARTED, 1)


@dataclass
class Case:
    """The fan-out of one invocation, and what is heard of it."""

    collected: Collected = field(default_factory=Collected)
    events: ReportedEvents = field(init=False)

    def __post_init__(self) -> None:
        unused: Any = None
        frame = Frame(
            run_id="r",
            invocation_id="later",
            correlation_id="c",
            root=graph,
            journal=unused,
            fan_outs=unused,
            emitter=self.collected,
        )
        row = FanOutRow(key=FanOutKey((), "pieces"), instance_count=INDEX + 1, item_hashes=b"")
        self.events = ReportedEvents(frame, Whole(), row)

    @property
    def lines(self) -> list[str]:
        told = [event for event, _ in self.collected.events if isinstance(event, InstanceLogEvent)]
        return [line.text for event in told for line in event.lines]

    def heard(self) -> list[tuple[str, int]]:
        told = [event for event, _ in self.collected.events]
        return [(event.phase.value, event.attempt_index) for event in told if isinstance(event, NodeEvent)]


@pytest.fixture
def case() -> Case:
    return Case()


def told(delivery: int, *events: str) -> EventsTold:
    return EventsTold("earlier", delivery, events)


def test_a_delivery_that_goes_the_same_way_is_heard_from_where_the_one_before_ended(case: Case) -> None:
    case.events.happened(INDEX, told(1, BEGUN))
    case.events.happened(INDEX, told(2, BEGUN, ENDED))
    assert case.heard() == [("started", 0), ("completed", 0)]


def test_what_an_earlier_owner_was_given_is_not_heard_and_what_follows_it_is(case: Case) -> None:
    case.events.repeated(INDEX, told(1, BEGUN))
    assert case.heard() == []
    case.events.happened(INDEX, told(1, ENDED))
    assert case.heard() == [("completed", 0)]


def test_a_later_delivery_repeats_nothing_that_an_earlier_owner_was_given(case: Case) -> None:
    case.events.repeated(INDEX, told(1, BEGUN, ENDED))
    case.events.happened(INDEX, told(2, BEGUN, ENDED, BEGUN_AGAIN))
    assert case.heard() == [("started", 1)]


def test_events_that_are_not_heard_take_no_step_of_the_invocation(case: Case) -> None:
    case.events.repeated(INDEX, told(1, BEGUN, ENDED))
    case.events.happened(INDEX, told(1, text(Phase.STARTED, 0, step=1)))
    assert [event.step for event, _ in case.collected.events if isinstance(event, NodeEvent)] == [0]


def test_lines_that_an_earlier_owner_was_given_are_heard_again_since_it_may_have_kept_none(case: Case) -> None:
    case.events.repeated(INDEX, told(1, lines(1, "first")))
    case.events.happened(INDEX, told(1, lines(2, "second")))
    assert case.lines == ["first", "second"]


def test_the_lines_of_a_delivery_that_goes_the_same_way_again_are_its_own(case: Case) -> None:
    case.events.happened(INDEX, told(1, lines(1, "first")))
    case.events.happened(INDEX, told(2, lines(1, "first", source="t"), lines(2, "second", source="t")))
    assert case.lines == ["first", "first", "second"]
