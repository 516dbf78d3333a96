"""Metrics of a worker: those that its processes count, put together, and those that it tells of itself."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import values
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from backends.telemetry.exporter import Address, Exporter
from backends.telemetry.process_folder import ProcessFolder
from backends.telemetry.prometheus import PrometheusMeter, registry_of
from orchestrator.metrics.meter import UNMETERED, Labels, Meter
from orchestrator.metrics.metric import METRICS_OF_WORKER_PROCESSES, WORKER_LEASES, Kind, Metric

log = logging.getLogger(__name__)

# The package says types, but of these two.
_collect: Any = MultiProcessCollector
_value_class: Any = values.MultiProcessValue

MAIN = "main"
"""The place of the process that was there before any other."""

Fact = tuple[Metric, Labels, float]
"""A metric, the values of its labels, and its own."""


class WorkerMetrics:
    """The metrics of a worker, served at an address until they are closed.

    Each process of the worker counts in files of its own, which the one that serves reads; so none is asked, and none
    that has died is missing. A process that takes a dead one's place goes on with its files.
    """

    def __init__(self, address: Address) -> None:
        self._folder = ProcessFolder()
        self._pid = os.getpid()
        self._place = MAIN
        self._told = Told()
        try:
            self._folder.allot(MAIN)
            counted = _collect(None, path=str(self._folder.path))
            self._exporter = Exporter(registry_of(counted, self._told), address)
        except BaseException:
            self._folder.remove()
            raise
        # Before the user's modules are imported: what they count with prometheus_client is served as well. The package
        # itself looks at the variable once, when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder.path)
        values.ValueClass = _value_class(lambda: self._place)
        self.url = self._exporter.url

    def tell(self, facts: Callable[[], Iterable[Fact]]) -> None:
        """Have these asked for with every scrape."""
        self._told.facts = facts

    def begin_process(self, place: str) -> Meter:
        """The meter of this process, in its place among those of the worker; no other has that one meanwhile."""
        if os.getpid() != self._pid:
            self._exporter.forsake()
        try:
            self._folder.allot(place)
        except OSError as error:
            log.warning("metrics cannot be kept, none are counted in this process", extra={"reason": str(error)})
            return UNMETERED
        # What was made before a fork is counted in the files of the new place from now on.
        self._place = place
        meter = PrometheusMeter(METRICS_OF_WORKER_PROCESSES, is_shared=True)
        # Whoever had the place before may have been killed with what it held.
        meter.set(WORKER_LEASES, 0)
        return meter

    def close(self) -> None:
        """Stop serving, in the process that serves."""
        if os.getpid() == self._pid:
            self._exporter.close()
            self._folder.remove()


class Told(Collector):
    """What a worker tells of itself when it is asked."""

    def __init__(self) -> None:
        self.facts: Callable[[], Iterable[Fact]] = tuple

    def collect(self) -> Iterator[Family]:
        """The facts as they are now."""
        for metric, labels, value in self.facts():
            kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            family.add_metric(labels, value)
            yield family
