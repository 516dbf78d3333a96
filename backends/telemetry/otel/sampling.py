"""Which traces are recorded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceState, set_span_in_context
from opentelemetry.util.types import Attributes

_DROPPED = create_key("rollforward-dropped-trace")

_is_settled: ContextVar[bool] = ContextVar("rollforward_trace_is_recorded", default=False)


class SampledOnce(Sampler):
    """Asks another sampler, but where it is settled: a trace that begins inside another that is recorded is too.

    Inside what we do not trace nothing is, also by a sampler that does not look at parents.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(  # noqa: PLR0917 - the library fixes the signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if _is_settled.get():
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        if get_value(_DROPPED, parent_context) == trace_id:
            return SamplingResult(Decision.DROP, None, trace_state)
        told: Any = (parent_context, trace_id, name, kind, attributes, links, trace_state)
        return self._sampler.should_sample(*told)

    def get_description(self) -> str:
        return f"SampledOnce({self._sampler.get_description()})"


@contextmanager
def recorded() -> Iterator[None]:
    """Record the trace that begins in here."""
    kept = _is_settled.set(True)
    try:
        yield
    finally:
        _is_settled.reset(kept)


def inside_dropped(span: SpanContext) -> Context:
    """The context inside a span that is not recorded, where nothing else of its trace is."""
    return set_value(_DROPPED, span.trace_id, set_span_in_context(NonRecordingSpan(span)))


def is_dropped(span: SpanContext) -> bool:
    """Whether that is the context here."""
    return get_value(_DROPPED) == span.trace_id
