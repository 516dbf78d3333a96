"""The tracing of a worker, made by each of its processes for itself."""

import os
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace.export import SpanExporter

from backends.telemetry.otel.held import HeldSpans
from backends.telemetry.otel.observer import OTelObserver


class TracedProcess:
    """The observer of this process and what holds its spans; nothing of either survives a fork."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.pid = os.getpid()
        self.held = HeldSpans(exporter)
        self.observer = OTelObserver(self.held, is_in_task=True, shuts_down_at_exit=False)


class TracedWorker(trace.TracerProvider):
    """A provider for whatever process of a worker asks; `make_exporter` is called in each, with its first span."""

    def __init__(self, make_exporter: Callable[[], SpanExporter]) -> None:
        self._make_exporter = make_exporter
        self._lock = threading.Lock()
        self._process: TracedProcess | None = None

    @property
    def observer(self) -> OTelObserver:
        return self._here().observer

    def flush(self) -> int:
        """Export what has ended in this process; see `HeldSpans.flush`."""
        process = self._process
        return process.held.flush() if process is not None and process.pid == os.getpid() else 0

    def get_tracer(self, *name: Any, **more: Any) -> trace.Tracer:
        return _LateTracer(lambda: self._here().observer.provider.get_tracer(*name, **more))

    def _here(self) -> TracedProcess:
        process = self._process
        if process is None or process.pid != os.getpid():
            with self._lock:
                if self._process is None or self._process.pid != os.getpid():
                    self._process = TracedProcess(self._make_exporter())
                process = self._process
        return process


class _LateTracer(trace.Tracer):
    """Finds the tracer of the process when a span is started."""

    def __init__(self, find: Callable[[], trace.Tracer]) -> None:
        self._find = find

    def start_span(self, *name: Any, **more: Any) -> trace.Span:
        return self._find().start_span(*name, **more)

    def start_as_current_span(self, *name: Any, **more: Any) -> Any:
        return self._find().start_as_current_span(*name, **more)
