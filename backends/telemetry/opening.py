"""From the environment to tracing; the SDK is imported only where spans are wanted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import CallerError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from backends.telemetry.otel.environment import ExporterName
    from backends.telemetry.otel.observer import OTelObserver
    from backends.telemetry.otel.options import TracingOptions
    from backends.telemetry.otel.per_process import TracedWorker


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

        return OTelObserver(BatchSpanProcessor(_exporter(wanted)), options=options)
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
    return TracedWorker(lambda: _exporter(wanted))


def _wanted(environment: Mapping[str, str]) -> "ExporterName | None":
    from backends.telemetry.otel.environment import wanted_exporter

    return wanted_exporter(environment)


def _exporter(wanted: "ExporterName") -> "SpanExporter":
    if wanted == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
