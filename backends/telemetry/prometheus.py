"""Metrics of one process, as Prometheus scrapes them."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from orchestrator.metrics.meter import Labels
from orchestrator.metrics.metric import Kind, Metric

log = logging.getLogger(__name__)

_choosing = threading.Lock()

FAILURES = (KeyError, ValueError, TypeError, OSError)
"""A metric or labels that are none of ours, and files that cannot be written."""


class PrometheusMeter:
    """Keeps these metrics in a registry of its own.

    `is_shared` where the values lie in a file that another process reads: a gauge's share is then that process's own.
    Otherwise they lie in memory, whatever the environment asks of prometheus_client.
    """

    def __init__(self, metrics: Iterable[Metric], *, is_shared: bool = False) -> None:
        self.registry = CollectorRegistry()
        self._is_shared = is_shared
        self._lock = threading.Lock()
        with self._making():
            self._families = {metric.name: _family(metric, self.registry) for metric in metrics}
        self._children: dict[tuple[str, Labels], Any] = {}
        self._shares: dict[tuple[str, Labels], Shares] = {}
        self._has_failed = False

    def add(self, metric: Metric, labels: Labels = (), amount: float = 1) -> None:
        try:
            self._child(metric, labels).inc(amount)
        except FAILURES as error:
            self._failed(metric, error)

    def observe(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        try:
            self._child(metric, labels).observe(value)
        except FAILURES as error:
            self._failed(metric, error)

    def set(self, metric: Metric, value: float | None, labels: Labels = (), *, of: object = None) -> None:
        try:
            if self._is_shared:
                self._child(metric, labels).set(value or 0)
            else:
                self._shares_of(metric, labels).set(of, value)
        except FAILURES as error:
            self._failed(metric, error)

    def _child(self, metric: Metric, labels: Labels) -> Any:
        child = self._children.get((metric.name, labels))
        if child is None:
            family = self._families[metric.name]
            with self._making():
                child = self._children[metric.name, labels] = family.labels(*labels) if labels else family
        return child

    @contextmanager
    def _making(self) -> Iterator[None]:
        """Make values in here: prometheus_client has one switch for all, which an image for gunicorn may have set."""
        if self._is_shared:
            yield
            return
        with _choosing:
            chosen, values.ValueClass = values.ValueClass, values.MutexValue
            try:
                yield
            finally:
                values.ValueClass = chosen

    def _shares_of(self, metric: Metric, labels: Labels) -> "Shares":
        with self._lock:
            shares = self._shares.get((metric.name, labels))
            if shares is None:
                shares = self._shares[metric.name, labels] = Shares(metric.kind)
                self._child(metric, labels).set_function(shares.value)
            return shares

    def _failed(self, metric: Metric, error: Exception) -> None:
        """Say once that something is wrong; the work that was measured goes on."""
        if not self._has_failed:
            self._has_failed = True
            log.error("metric not counted, others may be missing too", exc_info=error, extra={"metric": metric.name})


class Shares:
    """What several have of one gauge."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._held: dict[object, float] = {}

    def set(self, of: object, value: float | None) -> None:
        """Keep the share of one, or with None forget it."""
        with self._lock:
            if value is None:
                self._held.pop(of, None)
            else:
                self._held[of] = value

    def value(self) -> float:
        """What all of them come to now."""
        with self._lock:
            held = list(self._held.values())
        if self._kind is Kind.AGE:
            return time.monotonic() - min(held) if held else 0.0
        return max(held, default=0.0) if self._kind is Kind.PEAK else sum(held)


class WithoutCreated(Collector):
    """A registry without the series that say when each other one began, which double their number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Family]:
        """The families of the registry as they are now."""
        for family in self._registry.collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """What a scrape asks: these collectors, and nothing that others have registered."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    for collector in collectors:
        registry.register(collector)
    return registry


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    match metric.kind:
        case Kind.COUNTER:
            return Counter(metric.name, metric.help, metric.labels, registry=registry)
        case Kind.HISTOGRAM:
            return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return Gauge(metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode="livesum")
