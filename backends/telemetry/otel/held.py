"""Spans of a worker: held until what they belong to has ended, then exported together."""

import logging
import threading
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30.0, 300.0
"""For so long a collector that was away is not asked again: work must not wait for it each time."""

MOST_SPANS = 8192
"""So many are kept where nothing flushes, or what they belong to never ends; then the oldest go."""


class HeldSpans(SpanProcessor):
    """Holds the spans inside each span that has no parent in this process, and exports them when `flush` is called.

    A process that is killed has exported nothing of what it was at, so that no span lacks its parent. `dropped` counts
    the spans that no collector took.
    """

    def __init__(self, exporter: SpanExporter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0
        self._exporter = exporter
        self._clock = clock
        self._lock = threading.Lock()
        self._outermost: dict[int, int] = {}
        self._held: dict[int, list[ReadableSpan]] = {}
        self._ready: list[ReadableSpan] = []
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
            self._held.setdefault(outermost, [])
            while len(self._outermost) > MOST_SPANS:
                self._give_up(next(iter(self._outermost)))

    def on_end(self, span: ReadableSpan) -> None:
        if not span.context.trace_flags.sampled:
            return
        own = span.context.span_id
        with self._lock:
            outermost = self._outermost.pop(own, own)
            # One that ends after what it belongs to has its parent exported already.
            self._held.get(outermost, self._ready).append(span)
            if outermost == own:
                self._ready += self._held.pop(own, [])
            if len(self._ready) > MOST_SPANS:
                self.dropped += len(self._ready) - MOST_SPANS
                del self._ready[:-MOST_SPANS]

    def flush(self) -> None:
        """Export what has ended; it waits for the collector at most as long as the exporter does."""
        with self._lock:
            ready, self._ready = self._ready, []
        if ready and not self._export(ready):
            self.dropped += len(ready)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.flush()
        return True

    def shutdown(self) -> None:
        self.flush()
        self._exporter.shutdown()

    def _export(self, spans: list[ReadableSpan]) -> bool:
        if self._clock() < self._away_until:
            return False
        try:
            if self._exporter.export(spans) is SpanExportResult.SUCCESS:
                self._pause_seconds = FIRST_PAUSE_SECONDS
                return True
        except Exception:
            logger.exception("exporter failed")
        self._away_until = self._clock() + self._pause_seconds
        facts = {"spans": len(spans), "dropped": self.dropped, "again_in_seconds": self._pause_seconds}
        logger.warning("spans not exported", extra=facts)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        return False

    def _give_up(self, span_id: int) -> None:
        """Hold nothing more for the oldest of those that have not ended."""
        self.dropped += 1 + len(self._held.pop(span_id, ()))
        self._outermost.pop(span_id)
