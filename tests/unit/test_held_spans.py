"""Spans of a worker go out together, once what they belong to has ended, and work never waits for a dead collector."""

import threading
from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from backends.telemetry.otel.held import FIRST_PAUSE_SECONDS, MOST_SPANS, SPANS_PER_REQUEST, HeldSpans
from backends.telemetry.otel.per_process import TracedWorker
from backends.telemetry.prometheus import PrometheusMeter
from orchestrator.metrics.metric import WORKER_SPANS_DROPPED
from workers.tracing import flush


class Shelf(SpanExporter):
    """Keeps each batch once it is `open`; `is_away` refuses it, `is_broken` raises."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.asked = 0
        self.is_away = self.is_broken = False
        self.was_instrumented: set[bool] = set()
        self.begun, self.open = threading.Event(), threading.Event()
        self.open.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += 1
        self.was_instrumented.add(is_instrumentation_enabled())
        self.begun.set()
        assert self.open.wait(10)
        if self.is_broken:
            raise RuntimeError("no")
        if self.is_away:
            return SpanExportResult.FAILURE
        self.batches.append([span.name for span in spans])
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.was_instrumented.add(is_instrumentation_enabled())


class Held:
    """Held spans with a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shelf = Shelf()
        self.spans = HeldSpans(self.shelf, clock=lambda: self.now)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.spans)
        self.tracer = provider.get_tracer("test")

    def root(self, name: str) -> trace.Span:
        elsewhere = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        return self.tracer.start_span(name, set_span_in_context(NonRecordingSpan(elsewhere)))

    def inside(self, parent: trace.Span, name: str) -> trace.Span:
        return self.tracer.start_span(name, set_span_in_context(parent))


@pytest.fixture
def held() -> Held:
    return Held()


def test_nothing_goes_out_before_what_it_belongs_to_has_ended(held: Held) -> None:
    root = held.root("instance")
    held.inside(root, "node").end()
    held.spans.flush()
    assert held.shelf.batches == []
    root.end()
    held.spans.flush()
    assert held.shelf.batches == [["node", "instance"]]


def test_what_belongs_to_another_is_not_held_by_it(held: Held) -> None:
    open_one, other = held.root("open"), held.root("other")
    held.inside(open_one, "of the open one").end()
    held.inside(other, "of the other").end()
    other.end()
    held.spans.flush()
    assert held.shelf.batches == [["of the other", "other"]]


def test_a_span_that_outlives_what_it_belongs_to_goes_out_later(held: Held) -> None:
    root = held.root("instance")
    late = held.inside(root, "late")
    root.end()
    held.spans.flush()
    late.end()
    held.spans.flush()
    assert held.shelf.batches == [["instance"], ["late"]]


def test_a_root_of_its_own_trace_goes_out_by_itself(held: Held) -> None:
    held.tracer.start_span("alone", Context()).end()
    held.spans.flush()
    assert held.shelf.batches == [["alone"]]


@pytest.mark.parametrize("fault", ["is_away", "is_broken"])
def test_a_collector_that_is_away_is_not_asked_at_every_task(held: Held, fault: str) -> None:
    setattr(held.shelf, fault, True)
    for number in range(3):
        held.root(f"lost {number}").end()
        held.spans.flush()
    assert (held.shelf.asked, held.spans.dropped) == (1, 3)
    setattr(held.shelf, fault, False)
    held.now += FIRST_PAUSE_SECONDS
    held.root("seen").end()
    held.spans.flush()
    assert held.shelf.batches == [["seen"]]


def test_a_collector_that_stays_away_is_asked_less_and_less_often(held: Held) -> None:
    held.shelf.is_away = True
    asked = []
    for second in range(0, 600, 10):
        held.now = float(second)
        held.root("lost").end()
        before = held.shelf.asked
        held.spans.flush()
        asked += [second] * (held.shelf.asked - before)
    assert asked == [0, 30, 90, 210, 450]


def test_where_nothing_flushes_or_ends_the_oldest_go(held: Held) -> None:
    never_ended = [held.root("open") for _ in range(MOST_SPANS + 5)]
    held.inside(never_ended[-1], "in the last").end()
    assert len(held.spans._outermost) <= MOST_SPANS
    for _ in range(MOST_SPANS + 7):
        held.root("ended").end()
    assert held.spans.flush() >= 12
    assert sum(len(batch) for batch in held.shelf.batches) == MOST_SPANS


def test_of_one_instance_the_last_spans_are_kept_with_what_is_around_them(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    root = held.root("instance")
    for number in range(MOST_SPANS + 10):
        held.inside(root, str(number)).end()
    assert len(held.spans._held[root.get_span_context().span_id]) == MOST_SPANS
    root.end()
    assert held.spans.flush() == 11
    sent = [name for batch in held.shelf.batches for name in batch]
    assert sent == [*(str(number) for number in range(11, MOST_SPANS + 10)), "instance"]
    assert [record.message for record in caplog.records] == ["spans dropped, there were too many"]


def test_many_spans_go_out_in_pieces_until_one_is_refused(held: Held) -> None:
    for _ in range(2 * SPANS_PER_REQUEST + 1):
        held.root("ended").end()
    held.spans.flush()
    assert [len(batch) for batch in held.shelf.batches] == [SPANS_PER_REQUEST, SPANS_PER_REQUEST, 1]
    held.shelf.is_away, held.shelf.asked = True, 0
    for _ in range(SPANS_PER_REQUEST + 1):
        held.root("ended").end()
    assert (held.spans.flush(), held.shelf.asked) == (SPANS_PER_REQUEST + 1, 1)


def test_a_flush_is_over_when_all_that_had_ended_is_out_whoever_sends_it(held: Held) -> None:
    held.shelf.open.clear()
    held.root("of one task").end()
    held.root("of another").end()
    first, other = (threading.Thread(target=held.spans.flush) for _ in range(2))
    first.start()
    assert held.shelf.begun.wait(10)
    other.start()
    other.join(0.1)
    assert other.is_alive()
    # Nothing that is traced meanwhile waits for the collector.
    held.root("later").end()
    held.shelf.open.set()
    for thread in (first, other):
        thread.join(10)
    held.spans.flush()
    assert sorted(name for batch in held.shelf.batches for name in batch) == ["later", "of another", "of one task"]


def test_an_exporter_with_an_instrumented_client_is_not_traced_itself(held: Held) -> None:
    held.root("ended").end()
    held.spans.flush()
    held.spans.shutdown()
    assert held.shelf.was_instrumented == {False}


def test_each_flush_says_how_many_were_dropped_since_the_last(held: Held) -> None:
    held.shelf.is_away = True
    told = []
    for count in (2, 0, 1):
        for _ in range(count):
            held.root("lost").end()
        told.append(held.spans.flush())
    assert told == [2, 0, 1]


def test_a_worker_counts_the_spans_that_no_collector_took() -> None:
    shelf, meter = Shelf(), PrometheusMeter([WORKER_SPANS_DROPPED])
    traced = TracedWorker(lambda: shelf)
    for is_away in (True, False):
        shelf.is_away = is_away
        traced.get_tracer("test").start_span("one").end()
        flush(traced, meter)
    assert meter.registry.get_sample_value(WORKER_SPANS_DROPPED.name) == 2


def test_without_spans_the_collector_is_not_asked(held: Held) -> None:
    held.spans.flush()
    assert held.shelf.asked == 0
