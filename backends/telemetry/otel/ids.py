"""Ids of spans: random ones, and for the root of an instance's own trace those that are known before it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext

_chosen: ContextVar[SpanContext | None] = ContextVar("rollforward_chosen_span", default=None)


class ChosenIds(RandomIdGenerator):
    """Gives the ids of `choosing` where that is in force, and random ones otherwise."""

    def generate_trace_id(self) -> int:
        chosen = _chosen.get()
        return super().generate_trace_id() if chosen is None else chosen.trace_id

    def generate_span_id(self) -> int:
        chosen = _chosen.get()
        return super().generate_span_id() if chosen is None else chosen.span_id


@contextmanager
def choosing(ids: SpanContext) -> Iterator[None]:
    """Give these ids to the root span that is started in here."""
    kept = _chosen.set(ids)
    try:
        yield
    finally:
        _chosen.reset(kept)
