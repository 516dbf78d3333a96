"""The span that code runs in."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from orchestrator.holding import Holding
from orchestrator.tracing.span import NO_SPAN, Span, SpanKind

_span: ContextVar[Span | None] = ContextVar("rollforward_span", default=None)
_UNCHANGED = nullcontext()


def current_span() -> Span:
    """The innermost open span that this code runs in; one of nothing outside any."""
    return _span.get() or NO_SPAN


def within(span: Span) -> AbstractContextManager[None]:
    """Make `span` the current one in here, for instrumented clients too."""
    is_untraced = span is NO_SPAN and current_span() is NO_SPAN
    return _UNCHANGED if is_untraced else _within(span)


@contextmanager
def _within(span: Span) -> Iterator[None]:
    with Holding(_span, span), span.current():
        yield


def spread(facts: Mapping[str, Any], span: Span | None) -> None:
    """Add facts to a span and to those around it, as far as they are no other instance's or branch's too.

    From a fork on only instances, branches and subgraphs on the way out get them: the others are shared.
    """
    has_forked = False
    while span is not None:
        is_private = span.kind in (SpanKind.INSTANCE, SpanKind.BRANCH, SpanKind.SUBGRAPH)
        if is_private or not (has_forked or span.kind is SpanKind.FORK):
            span.note(facts)
        has_forked = has_forked or span.kind is SpanKind.FORK
        span = span.parent
