"""Which spans are open in this process, by their invocation."""

import threading
import weakref
from queue import Empty, SimpleQueue
from typing import Any

from backends.telemetry.otel.span import OpenSpan
from orchestrator.tracing.span import CANCELLED, SpanKind


class OpenSpans:
    """Knows every open span until it has ended, from any thread; nothing of an invocation is left when it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, dict[OpenSpan, None]] = {}
        self._watched: dict[str, weakref.finalize[Any, Any]] = {}
        self._abandoned: SimpleQueue[str] = SimpleQueue()

    @property
    def invocations(self) -> tuple[str, ...]:
        """Those that have open spans."""
        self.sweep()
        with self._lock:
            return tuple(self._open)

    def add(self, span: OpenSpan) -> OpenSpan:
        with self._lock:
            self._open.setdefault(span.recording.invocation_id, {})[span] = None
        return span

    def ended(self, span: OpenSpan) -> None:
        """Forget a span; an instance's, or an invocation's, ends what did not heed its cancellation inside it."""
        invocation_id = span.recording.invocation_id
        with self._lock:
            known = self._open.get(invocation_id, {})
            known.pop(span, None)
            if not known:
                self._open.pop(invocation_id, None)
        for one in reversed(list(span.inner)):
            one.end(CANCELLED)
        if span.kind is SpanKind.INVOCATION:
            self.close(invocation_id)
            watch = self._watched.pop(invocation_id, None)
            if watch is not None:
                watch.detach()

    def close(self, invocation_id: str) -> None:
        """End what is open of an invocation, innermost first; where nothing is, do nothing."""
        with self._lock:
            left = list(self._open.get(invocation_id, ()))
        for span in reversed(left):
            span.end(CANCELLED)

    def watch(self, invocation_id: str, orchestrator: object) -> None:
        """Take an invocation for abandoned where the orchestrator goes that something of it belongs to."""
        watch = weakref.finalize(orchestrator, self._abandoned.put, invocation_id)
        watch.atexit = False
        self._watched[invocation_id] = watch

    def sweep(self) -> None:
        """End what abandoned invocations have left open: not where they go, which may be in the middle of anything."""
        while True:
            try:
                invocation_id = self._abandoned.get_nowait()
            except Empty:
                return
            self._watched.pop(invocation_id, None)
            self.close(invocation_id)
