"""Celery's own spans, and the way of a trace with the messages."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from celery import signals
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.trace import NonRecordingSpan, TracerProvider, set_span_in_context

from backends.telemetry.otel.carrier import CORRELATION, read_origin
from orchestrator.metrics.meter import Meter
from orchestrator.metrics.metric import WORKER_SPANS_DROPPED
from workers.tasks import TASK_NAME

if TYPE_CHECKING:
    from backends.telemetry.otel.per_process import TracedWorker

OUR_TASK = SimpleNamespace(name=TASK_NAME)
"""Our app is not Celery's current one, in which the library would look for the task of that name."""

SAMPLED = ("1", "3")
"""How the header of a span ends that is recorded (https://www.w3.org/TR/trace-context-2/#trace-flags)."""


class TracedTasks(CeleryInstrumentor):
    """Makes Celery's own spans of the tasks that are traced, and spends nothing on the others."""

    # The library keeps the one instrumentor of a process here, and would give it for ours.
    _instance = None

    def _trace_before_publish(self, *args: Any, **kwargs: Any) -> None:
        if trace.get_current_span().get_span_context().trace_flags.sampled:
            super()._trace_before_publish(*args, **_known(kwargs))  # type: ignore[no-untyped-call] # it has no types

    @staticmethod
    def _trace_after_publish(*args: Any, **kwargs: Any) -> None:
        if trace.get_current_span().get_span_context().trace_flags.sampled:
            published: Any = CeleryInstrumentor._trace_after_publish  # noqa: SLF001 - it is the hook that this overrides
            published(*args, **_known(kwargs))

    def _trace_prerun(self, *args: Any, **kwargs: Any) -> None:
        if _is_traced(kwargs.get("task")):
            super()._trace_prerun(*args, **kwargs)  # type: ignore[no-untyped-call] # it has no types

    def _trace_postrun(self, *args: Any, **kwargs: Any) -> None:
        if _is_traced(kwargs.get("task")):
            super()._trace_postrun(*args, **kwargs)  # type: ignore[no-untyped-call] # it has no types


def _known(told: dict[str, Any]) -> dict[str, Any]:
    """What a signal of publishing tells, with a sender that the library can keep the span with until that is done."""
    return {**told, "sender": OUR_TASK} if told.get("sender") == TASK_NAME else told


def _is_traced(task: Any) -> bool:
    """Whether the message of a task came with a span that is sampled."""
    parent = getattr(getattr(task, "request", None), "traceparent", None)
    return isinstance(parent, str) and parent[-1:] in SAMPLED


def trace_celery(provider: TracerProvider) -> None:
    """Have Celery's publish and run spans made by this provider, unless somebody has seen to that already."""
    # The library keeps one instrumentor of a class in a process.
    make_instrumentor: Any = CeleryInstrumentor
    make_ours: Any = TracedTasks
    if not (make_instrumentor().is_instrumented_by_opentelemetry or make_ours().is_instrumented_by_opentelemetry):
        make_ours().instrument(tracer_provider=provider)


def untrace_celery() -> None:
    """Make no more spans of ours of Celery's doings in this process."""
    make_ours: Any = TracedTasks
    if make_ours().is_instrumented_by_opentelemetry:
        make_ours().uninstrument()


def offer(provider: TracerProvider | None) -> None:
    """Make this the provider of a process of ours, where none was set: what users instrument in it is traced too."""
    if provider is not None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)


def trace_worker(traced: "TracedWorker", meter_of_process: Callable[[], Meter]) -> None:
    """Trace the tasks of this worker, and export what a task has made before its message is acknowledged."""
    trace_celery(traced)
    offer(traced)

    def after_task(**_: Any) -> None:
        flush(traced, meter_of_process())

    # After the instrumentor's own, which ends the span of the task.
    signals.task_postrun.connect(after_task, weak=False)


def flush(traced: "TracedWorker", meter: Meter) -> None:
    """Export what has ended in this process, and count what no collector took."""
    dropped = traced.flush()
    if dropped:
        meter.add(WORKER_SPANS_DROPPED, (), dropped)


@contextmanager
def under(carrier: Mapping[str, str], index: int) -> Iterator[None]:
    """Publish in here under the span that the instance will be under; nothing is sent with it where there is none."""
    origin = read_origin(carrier)
    if origin is None:
        yield
        return
    around = set_span_in_context(NonRecordingSpan(origin.context_of(index)))
    token = attach(baggage.set_baggage(CORRELATION, origin.correlation_id, around))
    try:
        yield
    finally:
        detach(token)
