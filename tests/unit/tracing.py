"""Traces in memory, and what tests ask of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from backends.telemetry.otel.observer import OTelObserver
from backends.telemetry.otel.options import TracingOptions
from orchestrator.observers.site import current_site
from orchestrator.tracing.current import current_span

CALL = "rollforward.llm.complete"


class Traced:
    """An observer whose spans are kept here."""

    def __init__(
        self, *more: SpanProcessor, sampler: Sampler | None = None, is_in_task: bool = False, **options: Any
    ) -> None:
        self._exporter = InMemorySpanExporter()
        kept = SimpleSpanProcessor(self._exporter)
        told = TracingOptions(**options)
        self.observer = OTelObserver(kept, *more, options=told, sampler=sampler, is_in_task=is_in_task)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str, **attributes: Any) -> ReadableSpan:
        (found,) = [span for span in self.named(name) if attributes.items() <= ours(span).items()]
        return found

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        """Its parent; None for a root, an error where it is missing."""
        if span.parent is None:
            return None
        (found,) = [one for one in self.spans if one.context.span_id == span.parent.span_id]
        assert found.context.trace_id == span.context.trace_id
        return found

    def path(self, span: ReadableSpan) -> tuple[str, ...]:
        """Its name and those of the spans around it, outermost first."""
        parent = self.parent(span)
        return (span.name,) if parent is None else (*self.path(parent), span.name)

    def traces(self) -> Iterator[frozenset[str]]:
        """The names of the spans of each trace."""
        for trace_id in {span.context.trace_id for span in self.spans}:
            yield frozenset(span.name for span in self.spans if span.context.trace_id == trace_id)

    def forget(self) -> None:
        self._exporter.clear()


def ours(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes that are ours, without their prefix; dots are underscores."""
    told = span.attributes or {}
    return {name.removeprefix("rollforward.").replace(".", "_"): value for name, value in told.items()}


def status(span: ReadableSpan) -> tuple[str, str | None]:
    return span.status.status_code.name, span.status.description


def call_model() -> None:
    """Make a span as a provider does that is called here."""
    site = current_site()
    assert site is not None
    site.frame.tracing.call(CALL, {"gen_ai.request.model": "small"}, current_span()).end()
