"""What a worker measures of itself and its processes, where somebody asked for it."""

import atexit
import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from billiard.process import current_process
from celery import signals

from backends.telemetry.opening import open_worker_metrics
from orchestrator.ledger.claim import Reported
from orchestrator.metrics.meter import UNMETERED, Labels, Meter
from orchestrator.metrics.metric import WORKER_REPORTS, Metric
from workers.settings import Settings

if TYPE_CHECKING:
    from backends.telemetry.worker import WorkerMetrics

logger = logging.getLogger(__name__)


class Metering:
    """The metrics of one worker; each of its processes has a meter of its own."""

    def __init__(self) -> None:
        self._metrics: WorkerMetrics | None = None
        self._meter: Meter = UNMETERED
        self._pid = os.getpid()
        self._said_at = logging.INFO

    def open(self, settings: Settings) -> None:
        """Serve metrics from now on, where the settings say so; before the worker has forked. Once more does nothing.

        Raises:
            DriverMissing: prometheus_client is not installed.
            MetricsNotServed: the address is taken.
        """
        address = settings.metrics_address
        if address is not None and self._metrics is None:
            self._metrics = open_worker_metrics(address)
            _, port = address
            self._said_at = logging.INFO if port else logging.WARNING
            atexit.register(self.close)
            # The pool tells it of each of its processes, also of those that take a dead one's place.
            signals.worker_process_init.connect(self._begin, weak=False)

    def of_this_process(self) -> Meter:
        """The meter of whatever process asks."""
        if self._metrics is not None and (self._pid != os.getpid() or self._meter is UNMETERED):
            self._pid, self._meter = os.getpid(), self._metrics.begin_process(_place())
            for answer in Reported:
                self._meter.add(WORKER_REPORTS, (answer.value,), 0)
        return self._meter

    def tell(self, facts: Callable[[], Iterable[tuple[Metric, Labels, float]]]) -> None:
        """Have these served as well, and say where."""
        if self._metrics is not None:
            self._metrics.tell(facts)
            logger.log(self._said_at, "metrics served", extra={"url": self._metrics.url})

    def close(self) -> None:
        """Stop serving."""
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            metrics.close()

    def _begin(self, **_: Any) -> None:
        self.of_this_process()


def _place() -> str:
    """This process's place in its pool, which another one takes when it has died; 0 where it is the only one."""
    return str(getattr(current_process(), "index", 0))
