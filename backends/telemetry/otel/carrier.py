"""What goes with a fan-out so that its instances are traced: the node's span, and which of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from opentelemetry.trace import INVALID_SPAN_ID, SpanContext, TraceFlags

from backends.telemetry.otel.options import TracingOptions

_PARENT = "traceparent"
CORRELATION = "rollforward.correlation_id"


@dataclass(frozen=True, slots=True)
class Origin:
    """The span of a fan-out node, as another process knows it: `traced` of its `count` instances are traced.

    These are spread evenly over the indexes, so that every delivery of an instance is traced, or none. Where it is
    `detached`, each has a trace of its own. `correlation_id` stands on everything that follows; `options` are those
    under which all inside them is traced.
    """

    span: SpanContext
    count: int
    traced: int
    correlation_id: str = ""
    detached: bool = False
    options: TracingOptions = field(default_factory=TracingOptions)

    def traces(self, index: int) -> bool:
        """Whether that instance is one of those that are traced."""
        return (index + 1) * self.traced // self.count > index * self.traced // self.count

    def root_of(self, index: int, delivery: int) -> SpanContext:
        """The root of a delivery in an instance's own trace, which is another one in another invocation."""
        place = f"{self.traceparent()}:{index}"
        trace_id = blake2b(place.encode(), digest_size=16).digest()
        span_id = blake2b(f"{place}:{delivery}".encode(), digest_size=8).digest()
        ids = int.from_bytes(trace_id), int.from_bytes(span_id)
        return SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def context_of(self, index: int) -> SpanContext:
        """What the instance is under; not sampled where it is not traced."""
        flags = self.span.trace_flags if self.traces(index) else TraceFlags(TraceFlags.DEFAULT)
        return SpanContext(self.span.trace_id, self.span.span_id, is_remote=True, trace_flags=flags)

    def traceparent(self) -> str:
        """The span in the spelling of https://www.w3.org/TR/trace-context/."""
        return f"00-{self.span.trace_id:032x}-{self.span.span_id:016x}-{self.span.trace_flags:02x}"

    def carrier(self) -> dict[str, str]:
        """The origin as texts."""
        detached = {"detached": "1"} if self.detached else {}
        told = {"count": str(self.count), "traced": str(self.traced), CORRELATION: self.correlation_id, **detached}
        return {_PARENT: self.traceparent(), **told, **self.options.to_texts()}


def read_origin(carrier: Mapping[str, str]) -> Origin | None:
    """The origin that a carrier was made of; None where it is of none."""
    try:
        _, trace_id, span_id, flags = carrier[_PARENT].split("-")
        span = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
        count, traced = int(carrier["count"]), int(carrier["traced"])
        options = TracingOptions.from_texts(carrier)
    except (LookupError, ValueError):
        return None
    if span.span_id == INVALID_SPAN_ID or not 0 <= traced <= count or count < 1:
        return None
    return Origin(span, count, traced, carrier.get(CORRELATION, ""), "detached" in carrier, options)
