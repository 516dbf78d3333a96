"""From the environment to tracing, and from an address to metrics; what makes them is imported where it is wanted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backends.opening import DriverMissing
from orchestrator.errors import CallerError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from backends.telemetry.exporter import Address, OrchestratorMetrics
    from backends.telemetry.otel.environment import ExporterName
    from backends.telemetry.otel.observer import OTelObserver
    from backends.telemetry.otel.options import TracingOptions
    from backends.telemetry.otel.per_process import TracedWorker
    from backends.telemetry.worker import WorkerMetrics


SPANS_PER_INSTANCE = 16
"""For so many spans of each instance that is traced there is room where they wait for the collector."""

WORKER_TIMEOUT_SECONDS = 2.0
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_QUEUE_SIZE = "OTEL_BSP_MAX_QUEUE_SIZE"


class SdkMissing(CallerError):
    """Spans are wanted, and what makes them is not installed."""

    category = "driver_missing"

    def __init__(self) -> None:
        super().__init__(
            "the environment asks for traces (OTEL_...), and the SDK of OpenTelemetry is not installed: "
            "pip install 'rollforward[otel]', or set OTEL_SDK_DISABLED=true"
        )


def open_tracing(environment: Mapping[str, str], options: "TracingOptions") -> "OTelObserver | None":
    """The tracing of a process that drives runs; None where the environment asks for none. It is to be shut down.

    Raises:
        SdkMissing, ExporterUnknown: it cannot be had.
    """
    wanted = _wanted(environment)
    if wanted is None:
        return None
    try:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from backends.telemetry.otel.observer import OTelObserver

        # By itself the library drops what one wide fan-out comes to, while a collector takes a second.
        room = None if _QUEUE_SIZE in environment else SPANS_PER_INSTANCE * (options.most_instances + 256)
        processor = BatchSpanProcessor(_exporter(wanted), max_queue_size=room)
        return OTelObserver(processor, options=options, shuts_down_at_exit=False)
    except ImportError as error:
        raise SdkMissing from error


def open_worker_tracing(environment: Mapping[str, str]) -> "TracedWorker | None":
    """The tracing of a worker; None where the environment asks for none. What is traced comes with the claims.

    Raises:
        SdkMissing, ExporterUnknown: it cannot be had.
    """
    wanted = _wanted(environment)
    if wanted is None:
        return None
    try:
        from backends.telemetry.otel.per_process import TracedWorker
    except ImportError as error:
        raise SdkMissing from error
    # A task waits for its spans: not for long where nobody takes them.
    timeout = None if any(name in environment for name in _TIMEOUTS) else WORKER_TIMEOUT_SECONDS
    return TracedWorker(lambda: _exporter(wanted, timeout=timeout))


def open_orchestrator_metrics(address: "Address") -> "OrchestratorMetrics":
    """Metrics of an orchestrator, served at this address until they are closed.

    Raises:
        DriverMissing: prometheus_client is not installed.
        MetricsNotServed: the address is taken.
    """
    try:
        from backends.telemetry.exporter import OrchestratorMetrics
    except ImportError as error:
        raise _no_prometheus() from error
    return OrchestratorMetrics(address)


def open_worker_metrics(address: "Address") -> "WorkerMetrics":
    """Metrics of a worker that has not forked yet; as those of an orchestrator otherwise."""
    try:
        from backends.telemetry.worker import WorkerMetrics
    except ImportError as error:
        raise _no_prometheus() from error
    return WorkerMetrics(address)


def _wanted(environment: Mapping[str, str]) -> "ExporterName | None":
    from backends.telemetry.otel.environment import wanted_exporter

    return wanted_exporter(environment)


def _exporter(wanted: "ExporterName", *, timeout: float | None = None) -> "SpanExporter":
    if wanted == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(timeout=timeout)


def _no_prometheus() -> DriverMissing:
    return DriverMissing("prometheus_client", "metrics", asked_for="ROLLFORWARD_METRICS")
