"""Which exporter the environment asks for, in the words of OpenTelemetry.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from collections.abc import Mapping
from typing import Literal

from orchestrator.errors import CallerError

ExporterName = Literal["otlp", "console"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class ExporterUnknown(CallerError):
    """The environment asks for an exporter of spans that there is not."""

    category = "exporter_unknown"

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(
            f"{variable} is {value!r}; set OTEL_TRACES_EXPORTER to otlp (over http/protobuf), console or none"
        )


def wanted_exporter(environment: Mapping[str, str]) -> ExporterName | None:
    """The exporter that is asked for; None where nothing is to be traced.

    Without a name there is one as soon as an endpoint of a collector is set.

    Raises:
        ExporterUnknown: there is no such exporter, or none with that protocol.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "none"
    name = environment.get("OTEL_TRACES_EXPORTER") or default
    if name not in ("otlp", "console", "none"):
        raise ExporterUnknown("OTEL_TRACES_EXPORTER", name)
    if name == "otlp":
        for variable in _PROTOCOLS:
            if environment.get(variable, "http/protobuf") != "http/protobuf":
                raise ExporterUnknown(variable, environment[variable])
    return {"otlp": "otlp", "console": "console"}.get(name)  # type: ignore[return-value] # one of the two
