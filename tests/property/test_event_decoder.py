"""Whatever a worker tells of events: they are passed on or left out, and the run goes on."""

import json
import logging
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.capture.line import LogLine, LogStream
from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.fan_out.entry import EventsTold
from orchestrator.identity import EnclosingInstance, FanOutKey
from orchestrator.llm.event import LlmCompletionEvent, LlmFailedEvent, Usage
from orchestrator.middleware.cause_chain import classify_cause_chain, error_record
from orchestrator.observers.event import (
    NODE_PHASES,
    CaughtException,
    Event,
    FailureIsolatedEvent,
    InstanceEvent,
    InstanceLogEvent,
    InstanceState,
    NodeEvent,
    Phase,
    StateLeftOut,
)
from orchestrator.observers.reported import ReportedEvents
from orchestrator.wire.event import decode, encode
from tests.graph.tiny import graph
from tests.graph.waiting import Piece, Whole
from tests.property.test_decoders import fuzzed, odd_values, places_of, put

PATH = ("pieces",)
PLACE: dict[str, Any] = {
    "run_id": "r",
    "invocation_id": "i",
    "correlation_id": "c",
    "namespace": ("pieces", "work"),
    "fan_out_index_chain": (3,),
    "branch_name_chain": (None,),
    "step": 4,
    "pre_state": Piece(number=3),
}
ENDED = NodeEvent(**PLACE, phase=Phase.COMPLETED, error=ValueError("no"))
CAUGHT = CaughtException(category=None, message="no", chain=classify_cause_chain(ValueError("no")))
ISOLATED = FailureIsolatedEvent(**PLACE, event_name="e", post_state={"result": "x"}, caught_exception=CAUGHT)
AGAIN = InstanceEvent(
    **{name: value for name, value in PLACE.items() if name not in ("namespace", "step", "pre_state")},
    namespace=PATH,
    state=InstanceState.RETRYING,
    key="k",
    tags={"a": "b"},
    attempts=2,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    duration_seconds=0.5,
    error=error_record(ValueError("no")),
)
CALLED: dict[str, Any] = {
    **{name: value for name, value in PLACE.items() if name != "pre_state"},
    "provider": "openai",
    "model": "m",
    "duration_seconds": 0.5,
    "parameters": {"temperature": 0.5, "stop": ("a", "b"), "seed": 1},
    "usage": Usage(prompt_tokens=5),
}
OUTPUT = InstanceLogEvent(
    **{name: value for name, value in PLACE.items() if name not in ("namespace", "step", "pre_state")},
    namespace=PATH,
    key="k",
    delivery=2,
    worker="w",
    source="s",
    first_number=3,
    lines=(
        LogLine(stream=LogStream.STDOUT, text="out", at=datetime(2026, 1, 1, tzinfo=UTC)),
        LogLine(stream=LogStream.LOG, text="...", at=datetime(2026, 1, 1, tzinfo=UTC), level="INFO", is_cut=True),
        *(
            LogLine(
                stream=LogStream.LOG,
                text="in",
                at=datetime(2026, 1, 1, tzinfo=UTC),
                inner_node="pieces/work",
                attempt=attempt,
            )
            for attempt in (0, 1, 1)
        ),
    ),
)
UNFIT = NodeEvent(**{**PLACE, "pre_state": Piece.model_construct(number="no number")}, phase=Phase.STARTED)  # type: ignore[arg-type]
TEXTS = {
    "node": encode(ENDED, PATH),
    "node_of_a_state_left_out": encode(UNFIT, PATH),
    "failure_isolated": encode(ISOLATED, PATH),
    "instance": encode(AGAIN, PATH),
    "logged": encode(OUTPUT, PATH),
    "llm_completion": encode(LlmCompletionEvent(**CALLED, text="yes"), PATH),
    "llm_failed": encode(LlmFailedEvent(**CALLED, error=error_record(ValueError("no"))), PATH),
}

each_text = pytest.mark.parametrize("valid", TEXTS.values(), ids=TEXTS)


def is_refused(text: str) -> bool:
    """Whether it is refused; any other exception is the test's failure, and so is one in what takes events."""
    invoked = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    try:
        event, _ = decode(text, graph, invoked=invoked, parents=[Whole()], step_of=lambda own: own)
    except ValueError:
        return True
    _ = Counter([(event.namespace, event.fan_out_index_chain, event.branch_name_chain, event.attempt_index)])
    return False


@each_text
def test_what_is_valid_is_read(valid: str) -> None:
    assert not is_refused(valid)


def test_a_state_that_cannot_travel_is_told_by_why() -> None:
    invoked = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    text = TEXTS["node_of_a_state_left_out"]
    event, _ = decode(text, graph, invoked=invoked, parents=[Whole()], step_of=int)
    assert isinstance(event, NodeEvent)
    assert isinstance(event.pre_state, StateLeftOut)
    assert "number" in event.pre_state.reason
    assert "no number" not in text


def test_lines_travel_whole() -> None:
    invoked = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    assert decode(TEXTS["logged"], graph, invoked=invoked, parents=[Whole()], step_of=int) == (OUTPUT, PATH)


def test_lines_of_a_worker_that_does_not_say_who_wrote_them_are_read() -> None:
    told = json.loads(TEXTS["logged"])
    del told["writers"]
    invoked = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    event, _ = decode(json.dumps(told), graph, invoked=invoked, parents=[Whole()], step_of=int)
    assert isinstance(event, InstanceLogEvent)
    assert [(line.text, line.inner_node, line.attempt) for line in event.lines] == [
        (line.text, None, None) for line in OUTPUT.lines
    ]


def test_an_attempt_that_an_older_worker_tells_says_nothing_of_its_delivery() -> None:
    told = json.loads(TEXTS["node"])
    for name in ("at", "duration_seconds", "delivery", "worker"):
        del told[name]
    assert not is_refused(json.dumps(told))


@fuzzed
@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_is_refused(text: str) -> None:
    assert is_refused(text)


@each_text
@fuzzed
@given(data=st.data())
def test_an_odd_value_at_any_place_is_refused_or_read(valid: str, data: st.DataObject) -> None:
    value = json.loads(valid)
    is_refused(json.dumps(put(value, data.draw(st.sampled_from(places_of(value))), data.draw(odd_values))))


@each_text
def test_levels_inside_any_field_count(valid: str) -> None:
    value, deep = json.loads(valid), "[" * 100_000 + "]" * 100_000
    for place in places_of(value):
        assert is_refused(json.dumps(put(value, place, "HERE")).replace('"HERE"', deep)), place


@each_text
@pytest.mark.parametrize("path", [["nowhere"], ["pieces", "work"], ["pieces"] * 3, [1], "pieces", None])
def test_a_place_that_the_graph_does_not_have_is_refused(valid: str, path: Any) -> None:
    assert is_refused(json.dumps({**json.loads(valid), "path": path}))


class Told:
    """Takes what observers are to be told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.wanted = NODE_PHASES

    def wants(self, phase: Phase) -> bool:
        return phase in self.wanted

    def next_step(self) -> int:
        return len(self.events)

    def emit(self, event: Event, _path: Any) -> None:
        self.events.append(event)


def row_of(key: FanOutKey) -> FanOutRow:
    return FanOutRow(key=key, instance_count=4, item_hashes=b"")


def test_an_event_that_is_none_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    ids = {"run_id": "r", "invocation_id": "i", "correlation_id": "c"}
    frame: Any = SimpleNamespace(emitter=told, root=graph, parents=(), levels=(), **ids)
    lineage = (EnclosingInstance((), "pieces", 1),)
    reported = ReportedEvents(frame, Whole(), row_of(FanOutKey((), "pieces")))
    report: Any = SimpleNamespace(slot=SimpleNamespace(index=1))
    with caplog.at_level(logging.ERROR):
        reported.happened(3, EventsTold("i", 1, ("{", TEXTS["node"], "[]")))
        reported.completed(Step(position=0, namespace=("nowhere",), node="x", state="{}", lineage=lineage))
        reported.contributed(row_of(FanOutKey(("nowhere",), "f")), report)
    assert [event.namespace for event in told.events] == [("pieces", "work")]
    assert [record.message for record in caplog.records] == ["event refused"] * 4
