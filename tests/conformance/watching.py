"""What is seen of an invocation: its spans, from every process that worked on it, and what it logged."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from backends.telemetry.otel.observer import OTelObserver
from backends.telemetry.otel.options import TracingOptions
from orchestrator.correlation import CorrelationFilter
from tests.conformance.building import LABEL
from tests.conformance.document import Section
from tests.conformance.observed_body import LOGGER
from tests.conformance.scene import Scene
from tests.conformance.span_forest import OURS, Forest
from tests.service.otlp import SeenSpan

ARRIVAL_SECONDS = 5.0


class Watch:
    """Watches the invocations of one case; without a scene nobody traces."""

    def __init__(self, scene: Scene | None, case: Section) -> None:
        self._scene = scene
        address = case.path
        given: dict[str, Any] = {
            "calls": case.take("disable_llm_spans", default=False) is not True,
            # A case without a checkpointer says nothing of what is durable.
            "saves": "checkpointer" in case,
            "detached_subgraphs": {f"{LABEL}{address}#{name}" for name in case.take("detached_subgraphs", ())},
            "detached_fan_outs": set(case.take("detached_fan_outs", ())),
        }
        self.tracing: OTelObserver | None = None
        if scene is not None:
            exporter = OTLPSpanExporter(f"{scene.collector.url}/v1/traces")
            self.tracing = OTelObserver(BatchSpanProcessor(exporter), options=TracingOptions(**given))

    def close(self) -> None:
        if self.tracing is not None:
            self.tracing.shutdown()

    @contextmanager
    def logs(self) -> Iterator[list[logging.LogRecord]]:
        """The records that nodes of the case log in this process."""
        kept: list[logging.LogRecord] = []
        handler, logger = _Keeping(kept), logging.getLogger(LOGGER)
        handler.addFilter(CorrelationFilter())
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            yield kept
        finally:
            logger.removeHandler(handler)

    async def forest(self, correlation_id: str) -> Forest:
        """The spans of an invocation, once all of them have arrived; of one that never began, all there are."""
        if self._scene is None or self.tracing is None:
            return Forest([])
        await asyncio.to_thread(self.tracing.force_flush)
        last = asyncio.get_running_loop().time() + ARRIVAL_SECONDS
        while not (found := Forest(self._of(correlation_id))).is_whole():
            if asyncio.get_running_loop().time() > last:
                break
            # The other processes send theirs as soon as they are done.
            await asyncio.sleep(0.01)
        return found

    def _of(self, correlation_id: str) -> list[SeenSpan]:
        assert self._scene is not None
        mine = [span for span in self._scene.collector.spans if span.scope == OURS.rstrip(".")]
        return [span for span in mine if not correlation_id or span.get("correlation_id") == correlation_id]


class _Keeping(logging.Handler):
    def __init__(self, kept: list[logging.LogRecord]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)
