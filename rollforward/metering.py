"""What an orchestrator measures, where somebody asked for it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from backends.telemetry.opening import open_orchestrator_metrics
from orchestrator.metrics.meter import UNMETERED, Meter
from workers.settings import Settings

log = logging.getLogger(__name__)


@contextmanager
def metered(settings: Settings) -> Iterator[Meter]:
    """The meter of this process, served where the settings say.

    Raises:
        DriverMissing: prometheus_client is not installed.
        MetricsNotServed: the address is taken.
    """
    if settings.metrics_address is None:
        yield UNMETERED
        return
    metrics = open_orchestrator_metrics(settings.metrics_address)
    log.info("metrics served", extra={"url": metrics.url})
    try:
        yield metrics.meter
    finally:
        metrics.close()
