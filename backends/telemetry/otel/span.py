"""One open span of ours, over one or more of OpenTelemetry's."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, Tracer

from backends.telemetry.otel.attributes import METADATA, MIGRATION, SAVE, named
from backends.telemetry.otel.carrier import Origin
from backends.telemetry.otel.correlated import correlated
from backends.telemetry.otel.harmless import harmless, nothing
from backends.telemetry.otel.options import TracingOptions
from backends.telemetry.otel.sampling import inside_dropped, is_dropped
from orchestrator.error_record import ErrorRecord
from orchestrator.tracing.span import CANCELLED, Carrier, NoSpan, Span, SpanKind

_UNCHANGED = nullcontext()


def _no_carrier() -> Carrier:
    return {}


@dataclass(frozen=True, slots=True)
class Recording:
    """What the open spans of one invocation share; `ended` is called with each that has ended."""

    invocation_id: str
    correlation_id: str
    options: TracingOptions
    tracer: Tracer
    ended: Callable[["OpenSpan"], None]


class OpenSpan:
    """A span that is recorded. `spans` are more than one where a trace of its own begins here: outermost first.

    `origin` makes, of a fan-out node's span and the number of its instances, what these are traced by. Branches are
    handed to processors in the order of their declaration, when all of them are over, each with its own end. `inner` is
    what is open inside an instance or an invocation.
    """

    def __init__(
        self,
        recording: Recording,
        spans: Sequence[trace.Span],
        kind: SpanKind,
        *,
        parent: Span,
        origin: Callable[[SpanContext, int], Origin] | None = None,
    ) -> None:
        self.recording = recording
        self.kind = kind
        self.parent = parent if isinstance(parent, OpenSpan) else None
        self._whole = self if self.parent is None else self.parent.whole
        self._spans = tuple(spans)
        self._make_origin = origin
        self._origin: Origin | None = None
        self._failed_at: int | None = None
        self._ended_at = 0
        self._deliveries: dict[int, int] = {}
        self.is_over = False
        self.branches: list[OpenSpan] = []
        self.inner: dict[OpenSpan, None] = {}
        if self.whole is not self:
            self.whole.inner[self] = None
        if kind is SpanKind.BRANCH and self.parent is not None:
            self.parent.branches.append(self)

    @property
    def context(self) -> SpanContext:
        return self._spans[-1].get_span_context()

    @property
    def whole(self) -> "OpenSpan":
        """The instance or invocation that it is in, or is."""
        return self._whole

    @property
    def inside(self) -> Context:
        """The context in which a child of it is started."""
        return correlated(trace.set_span_in_context(self._spans[-1]), self.recording.correlation_id)

    @property
    def ids(self) -> tuple[str, str] | None:
        return f"{self.context.trace_id:032x}", f"{self.context.span_id:016x}"

    @contextmanager
    def current(self) -> Iterator[None]:
        with _attached(self.inside):
            try:
                yield
            except BaseException:
                # Its middleware may wait before it tries again: that is none of this attempt's time.
                self._failed_at = time.time_ns()
                raise

    @harmless(nothing)
    def note(self, facts: Mapping[str, Any]) -> None:
        # What outlives its attempt may still have something to say.
        for span in () if self.is_over else self._spans:
            span.set_attributes(named(facts))

    @harmless(nothing)
    def saved(self, index: int | None = None, delivery: int = 1) -> None:
        if index in self._deliveries:
            self._deliveries[index] = delivery
        if index is None or self._traces(index):
            kind, name = "node" if index is None else "instance", getattr(self._spans[0], "name", "")
            told = {"checkpoint.save_node": name, "checkpoint.save_kind": kind, "node.fan_out_index": index}
            self._tell_of(SAVE, told)

    @harmless(nothing)
    def migrated(self, from_version: str, to_version: str, *, chain_length: int) -> None:
        told = {"from_version": from_version, "to_version": to_version, "chain_length": chain_length}
        self._tell_of(MIGRATION, {f"checkpoint.migrate.{name}": fact for name, fact in told.items()})

    @harmless(_no_carrier)
    def carrier(self, instance_count: int) -> Carrier:
        if self._make_origin is None:
            return {}
        self._origin = self._make_origin(self.context, instance_count)
        return self._origin.carrier()

    @harmless(nothing)
    def dispatched(self, index: int, delivery: int) -> None:
        if self._origin is not None and self._origin.detached and self._traces(index):
            self._deliveries[index] = delivery

    @harmless(nothing)
    def end(self, error: ErrorRecord | None = None) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._ended_at = self._failed_at or time.time_ns()
        self._link()
        for span in reversed(self._spans):
            _tell(span, error, at=self._failed_at)
        if self.kind is not SpanKind.BRANCH or self.parent is None or self.parent.is_over:
            self.close()

    def close(self) -> None:
        """Hand it to the processors, after its branches: it has ended."""
        for branch in self.branches:
            if branch.is_over:
                branch.close()
        for span in reversed(self._spans):
            self._hand_over(span)
        self.whole.inner.pop(self, None)
        self.recording.ended(self)

    @harmless(nothing)
    def _link(self) -> None:
        """Link to the traces of instances, now that it is known of which deliveries there are spans."""
        for index, delivery in self._deliveries.items():
            if self._origin is not None:
                self._spans[-1].add_link(self._origin.root_of(index, delivery))

    @harmless(nothing)
    def _hand_over(self, span: trace.Span) -> None:
        span.end(self._ended_at)

    def _tell_of(self, moment: str, facts: Mapping[str, Any]) -> None:
        """A span of no length, with the metadata of this one."""
        if not self.recording.options.saves:
            return
        now, around = time.time_ns(), trace.set_span_in_context(self._spans[0], self.inside)
        told = getattr(self._spans[0], "attributes", None) or {}
        metadata = {name: value for name, value in told.items() if name.startswith(METADATA)}
        attributes = {**metadata, **named(facts)}
        span = self.recording.tracer.start_span(moment, around, attributes=attributes, start_time=now)
        span.set_status(Status(StatusCode.OK))
        span.end(now)

    def _traces(self, index: int) -> bool:
        return self._origin is not None and self._origin.traces(index)


class DroppedSpan(NoSpan):
    """A span that is not recorded; nothing inside it is, whoever would trace it."""

    def __init__(self, kind: SpanKind, context: SpanContext) -> None:
        self.kind = kind
        flags = TraceFlags(TraceFlags.DEFAULT)
        self._context = SpanContext(context.trace_id, context.span_id, is_remote=True, trace_flags=flags)

    def current(self) -> AbstractContextManager[None]:
        return _UNCHANGED if is_dropped(self._context) else _attached(inside_dropped(self._context))

    def inside(self, kind: SpanKind) -> "DroppedSpan":
        """A span inside it."""
        return DroppedSpan(kind, self._context)

    def carrier(self, instance_count: int) -> Carrier:
        return Origin(self._context, max(instance_count, 1), 0).carrier()


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def _tell(span: trace.Span, error: ErrorRecord | None, *, at: int | None) -> None:
    if error is None:
        span.set_status(Status(StatusCode.OK))
        return
    category = error.shown_category
    span.set_status(Status(StatusCode.ERROR, category))
    span.set_attributes(named({"error.category": category}))
    if error is not CANCELLED:
        told = {
            "exception.type": error.type,
            "exception.message": error.message,
            "exception.stacktrace": error.traceback,
        }
        span.add_event("exception", told, timestamp=at)


def link_to(context: SpanContext) -> list[Link]:
    """A link to that span, where it is one that is recorded."""
    return [Link(context)] if context.is_valid and context.trace_flags.sampled else []
