"""Which traces are recorded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_is_settled: ContextVar[bool] = ContextVar("rollforward_trace_is_recorded", default=False)


class SampledOnce(Sampler):
    """Asks another sampler about every trace, but for one that begins inside another that is recorded."""

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
