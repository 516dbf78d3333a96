"""Traces runs with OpenTelemetry."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, set_span_in_context

from backends.telemetry.otel.attributes import (
    INVOCATION,
    metadata,
    named,
    of_branch,
    of_call,
    of_instance,
    of_invocation,
    of_node,
)
from backends.telemetry.otel.carrier import Origin, read_origin
from backends.telemetry.otel.correlated import CorrelatedSpans
from backends.telemetry.otel.harmless import harmless
from backends.telemetry.otel.ids import ChosenIds, choosing
from backends.telemetry.otel.open_spans import OpenSpans
from backends.telemetry.otel.options import TracingOptions
from backends.telemetry.otel.sampling import SampledOnce, recorded
from backends.telemetry.otel.span import DroppedSpan, OpenSpan, Recording, link_to
from orchestrator.context import current_attempt_index
from orchestrator.graph.node import FunctionNode, SubgraphNode
from orchestrator.observers.site import current_site
from orchestrator.tracing.current import current_span
from orchestrator.tracing.span import NO_SPAN, Carrier, Span, SpanKind

if TYPE_CHECKING:
    from orchestrator.execution.frame import Frame
    from orchestrator.observers.site import Site

TRACER = "rollforward"

_ids = RandomIdGenerator()


def _no_span() -> Span:
    return NO_SPAN


class OTelObserver:
    """Gives every invocation a trace; one observer serves any number of invocations at once.

    Pass it among the `observers` of an invocation or attach it to a graph. A span's parent is handed on as a value,
    in this process and to workers, so that nothing has to be looked up and no context has to be undone later. The
    spans that are open are known by their invocation, and nothing of an invocation is left when it ends.

    It owns a provider, which spans of instrumented clients can share (`provider`), and never the global one.

    Args:
        processors: where ended spans go, as `BatchSpanProcessor(OTLPSpanExporter())`.
        options: what is traced.
        resource: by default what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
        sampler: by default what `OTEL_TRACES_SAMPLER` says; it decides on whole traces, with those detached from them.
        shuts_down_at_exit: whether what is left is exported when the interpreter ends.
        is_in_task: whether instances begin inside a span of Celery's, to which theirs then link.
    """

    def __init__(
        self,
        *processors: SpanProcessor,
        options: TracingOptions | None = None,
        resource: Resource | None = None,
        sampler: Sampler | None = None,
        is_in_task: bool = False,
        shuts_down_at_exit: bool = True,
    ) -> None:
        self.options = options or TracingOptions()
        self._is_in_task = is_in_task
        self.provider = TracerProvider(
            sampler=sampler,
            resource=resource or _resource(),
            id_generator=ChosenIds(),
            shutdown_on_exit=shuts_down_at_exit,
            # One link for each instance with a trace of its own.
            span_limits=SpanLimits(max_links=max(self.options.most_instances, 1)),
        )
        self.provider.sampler = SampledOnce(self.provider.sampler)
        for processor in (CorrelatedSpans(), *processors):
            self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(TRACER)
        self._open = OpenSpans()

    @property
    def open_invocations(self) -> tuple[str, ...]:
        """The invocations that have open spans in this process."""
        return self._open.invocations

    @harmless(_no_span)
    def invocation(self, frame: "Frame") -> Span:
        self._open.sweep()
        links = link_to(trace.get_current_span().get_span_context())
        span = self._start(INVOCATION, Context(), of_invocation(frame), links=links)
        opened = self._opened(SpanKind.INVOCATION, [span], frame)
        if isinstance(opened, OpenSpan):
            # Its queue of events goes with the orchestrator, also where that ends without ending anything.
            self._open.watch(frame.invocation_id, frame.emitter)
        return opened

    @harmless(_no_span)
    def node(self, site: "Site", parent: Span) -> Span:
        if not isinstance(parent, OpenSpan):
            return _inside(parent, SpanKind.NODE)
        name, facts, subject, options = site.namespace[-1], of_node(site), site.subject, parent.recording.options
        spans = [self._start(name, parent.inside, facts)]
        if isinstance(subject, SubgraphNode):
            if subject.graph.name in options.detached_subgraphs:
                with recorded():
                    root = self._start(INVOCATION, Context(), of_invocation(site.frame))
                spans[0].add_link(root.get_span_context())
                spans += [root, self._start(subject.graph.name, set_span_in_context(root), facts)]
            return self._opened(SpanKind.SUBGRAPH, spans, site.frame, parent=parent)
        if isinstance(subject, FunctionNode):
            return self._opened(SpanKind.NODE, spans, site.frame, parent=parent)
        is_detached = name in options.detached_fan_outs
        cid = site.frame.correlation_id
        origin = partial(_origin, options=options, correlation_id=cid, is_detached=is_detached)
        return self._opened(SpanKind.FORK, spans, site.frame, parent=parent, origin=origin)

    @harmless(_no_span)
    def branch(self, site: "Site", parent: Span) -> Span:
        if not isinstance(parent, OpenSpan):
            return _inside(parent, SpanKind.BRANCH)
        name = site.frame.levels[-1].branch or site.namespace[-1]
        span = self._start(name, parent.inside, of_branch(site, current_attempt_index()))
        return self._opened(SpanKind.BRANCH, [span], site.frame, parent=parent)

    @harmless(_no_span)
    def instance(self, site: "Site", carrier: Carrier, facts: Mapping[str, Any]) -> Span:
        origin, level = read_origin(carrier), site.frame.levels[-1]
        if origin is None or level.index is None:
            # Whoever drives the run does not trace it: a worker that does has none of its clients' spans either.
            return DroppedSpan(SpanKind.INSTANCE, _nowhere()) if self._is_in_task else NO_SPAN
        if not origin.traces(level.index):
            return DroppedSpan(SpanKind.INSTANCE, origin.context_of(level.index))
        is_nested = current_span() is not NO_SPAN
        links = link_to(trace.get_current_span().get_span_context()) if self._is_in_task and not is_nested else []
        told = {**of_instance(site), **facts}
        if origin.detached:
            with recorded(), choosing(origin.root_of(level.index, facts.get("delivery_attempt", 1))):
                root = self._start(INVOCATION, Context(), of_invocation(site.frame), links=links)
            spans = [root, self._start(level.node, set_span_in_context(root), told)]
        else:
            around = set_span_in_context(NonRecordingSpan(origin.context_of(level.index)))
            spans = [self._start(level.node, around, told, links=links)]
        return self._opened(SpanKind.INSTANCE, spans, site.frame, options=origin.options.inside(origin.traced))

    @harmless(_no_span)
    def call(self, name: str, facts: Mapping[str, Any], parent: Span) -> Span:
        if not isinstance(parent, OpenSpan) or not parent.recording.options.calls:
            return NO_SPAN
        recording = parent.recording
        told = named({**metadata(), **of_call(current_site()), **facts})
        span = self._tracer.start_span(name, parent.inside, trace.SpanKind.CLIENT, told)
        return self._open.add(OpenSpan(recording, [span], SpanKind.CALL, parent=parent))

    def close_invocation(self, invocation_id: str) -> None:
        """End what is open of an invocation, innermost first; where nothing is, do nothing."""
        self._open.close(invocation_id)

    def force_flush(self, timeout_seconds: float = 30.0) -> bool:
        """Export what has ended; whether that was done in time."""
        return self.provider.force_flush(int(timeout_seconds * 1000))

    def shutdown(self) -> None:
        """End what is open, export it, and trace nothing more."""
        for invocation_id in self.open_invocations:
            self.close_invocation(invocation_id)
        self.provider.shutdown()

    def _start(self, name: str, around: Context, facts: Mapping[str, Any], *, links: Sequence[Link] = ()) -> trace.Span:
        return self._tracer.start_span(name, around, attributes=named({**metadata(), **facts}), links=links)

    def _opened(
        self,
        kind: SpanKind,
        spans: Sequence[trace.Span],
        frame: "Frame",
        *,
        parent: Span = NO_SPAN,
        options: TracingOptions | None = None,
        origin: Callable[[SpanContext, int], Origin] | None = None,
    ) -> Span:
        if not spans[-1].is_recording():
            return DroppedSpan(kind, spans[-1].get_span_context())
        if isinstance(parent, OpenSpan):
            recording = parent.recording
        else:
            told = (frame.invocation_id, frame.correlation_id, options or self.options)
            recording = Recording(*told, tracer=self._tracer, ended=self._open.ended)
        return self._open.add(OpenSpan(recording, spans, kind, parent=parent, origin=origin))


def _nowhere() -> SpanContext:
    """Of a span that nobody records."""
    return SpanContext(_ids.generate_trace_id(), _ids.generate_span_id(), is_remote=False)


def _inside(parent: Span, kind: SpanKind) -> Span:
    """A span inside one that is not recorded."""
    return parent.inside(kind) if isinstance(parent, DroppedSpan) else NO_SPAN


def _origin(
    span: SpanContext, instance_count: int, *, options: TracingOptions, correlation_id: str, is_detached: bool
) -> Origin:
    traced = options.traced(instance_count)
    return Origin(span, instance_count, traced, correlation_id, is_detached, options)


def _resource() -> Resource:
    """What the environment says of this service; without a name it is ours."""
    return Resource.create({SERVICE_NAME: TRACER}).merge(OTELResourceDetector().detect())
