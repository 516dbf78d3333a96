"""The correlation id on every span, whoever makes it: ours, Celery's, and those of instrumented clients."""

from opentelemetry import baggage
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.sdk.trace import Span, SpanProcessor

from backends.telemetry.otel.carrier import CORRELATION

_KEY = create_key("rollforward-correlation-id")


def correlated(context: Context, correlation_id: str) -> Context:
    """The context in which spans have that id. It is not handed on with requests to others."""
    return set_value(_KEY, correlation_id, baggage.remove_baggage(CORRELATION, context))


class CorrelatedSpans(SpanProcessor):
    """Puts the id of its context on every span that begins."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        # Into a worker it comes with the message.
        known = get_value(_KEY, parent_context) or baggage.get_baggage(CORRELATION, parent_context)
        if isinstance(known, str) and CORRELATION not in (span.attributes or {}):
            span.set_attribute(CORRELATION, known)
