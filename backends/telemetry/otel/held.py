"""Spans of a worker: held until what they belong to has ended, then exported together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from backends.untraced import untraced

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 300.0
"""For so long a collector that was away is not asked again: work must not wait for it each time."""

MOST_SPANS = 8192
"""So many are kept inside one span without a parent here, and where nothing flushes; then the oldest go."""

SPANS_PER_REQUEST = 512
"""So few are refused by no collector for their size, which would look as if it were away."""


class HeldSpans(SpanProcessor):
    """Holds the spans inside each span that has no parent in this process, and exports them when `flush` is called.

    A process that is killed has exported nothing of what it was at, so that no span lacks its parent. `dropped` counts
    the spans that no collector took, and those that were too many.
    """

    def __init__(self, exporter: SpanExporter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self._overflowed = 0
        self._exporter = exporter
        self._clock = clock
        self._lock = threading.Lock()
        self._exporting = threading.Lock()
        self._outermost: dict[int, int] = {}
        self._held: dict[int, deque[ReadableSpan]] = {}
        self._ready: deque[ReadableSpan] = _bounded()
        self._away_until = 0.0
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if not span.context.trace_flags.sampled:
            return
        own = span.context.span_id
        with self._lock:
            parent = None if span.parent is None or span.parent.is_remote else span.parent.span_id
            outermost = own if parent is None else self._outermost.get(parent, own)
            self._outermost[own] = outermost
            while len(self._outermost) > MOST_SPANS:
                self._give_up(next(iter(self._outermost)))

    def on_end(self, span: ReadableSpan) -> None:
        if not span.context.trace_flags.sampled:
            return
        own = span.context.span_id
        with self._lock:
            outermost = self._outermost.pop(own, own)
            if outermost == own:
                for one in (*self._held.pop(own, ()), span):
                    self._keep(self._ready, one)
            elif outermost in self._outermost:
                self._keep(self._held.setdefault(outermost, _bounded()), span)
            else:
                # What it belongs to has ended: its parent is exported already.
                self._keep(self._ready, span)

    def flush(self) -> int:
        """Export what has ended, also what another flush is at; it waits for each request as long as the exporter does.

        Returns:
            how many spans were dropped since the last time.
        """
        with self._exporting:
            with self._lock:
                ready, self._ready = list(self._ready), _bounded()
                overflowed, self._overflowed = self._overflowed, 0
            if overflowed:
                logger.warning("spans dropped, there were too many", extra={"spans": overflowed, "most": MOST_SPANS})
            refused = len(ready) - self._exported(ready)
            with self._lock:
                self.dropped += refused
            return overflowed + refused

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.flush()
        return True

    def shutdown(self) -> None:
        self.flush()
        with untraced():
            self._exporter.shutdown()

    def _exported(self, spans: Sequence[ReadableSpan]) -> int:
        """Export spans up to those that the collector does not take; how many it took."""
        if self._clock() < self._away_until:
            return 0
        for start in range(0, len(spans), SPANS_PER_REQUEST):
            if not self._is_taken(spans[start : start + SPANS_PER_REQUEST]):
                self._pause(len(spans) - start)
                return start
            self._pause_seconds = FIRST_PAUSE_SECONDS
        return len(spans)

    def _is_taken(self, spans: Sequence[ReadableSpan]) -> bool:
        try:
            # An instrumented client would make a span of each export, for the next one to send.
            with untraced():
                return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            logger.exception("exporter failed")
            return False

    def _pause(self, refused: int) -> None:
        """Ask the collector no more for a while."""
        self._away_until = self._clock() + self._pause_seconds
        facts = {"spans": refused, "dropped": self.dropped, "again_in_seconds": self._pause_seconds}
        logger.warning("spans not exported", extra=facts)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def _keep(self, spans: deque[ReadableSpan], span: ReadableSpan) -> None:
        """Keep one more, and where there are too many one of the oldest less: what is inside ends before it."""
        self._drop(int(len(spans) == MOST_SPANS))
        spans.append(span)

    def _give_up(self, span_id: int) -> None:
        """Hold nothing more for the oldest of those that have not ended."""
        self._drop(1 + len(self._held.pop(span_id, ())))
        self._outermost.pop(span_id)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._overflowed += count


def _bounded() -> deque[ReadableSpan]:
    return deque(maxlen=MOST_SPANS)
