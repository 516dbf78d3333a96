"""Takes measurements: what a process counts of its work."""

from typing import Protocol

from orchestrator.metrics.metric import Metric

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order in which it names them."""


class Meter(Protocol):
    """Takes what is measured, from any thread. Nothing here ever raises or waits."""

    def add(self, metric: Metric, labels: Labels = (), amount: float = 1) -> None:
        """Count so many more."""

    def observe(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Put one value into a histogram."""

    def set(self, metric: Metric, value: float | None, labels: Labels = (), *, of: object = None) -> None:
        """Set the share that `of` has in a gauge, or with None take it back; see `Kind`."""


class Unmetered:
    """The meter where nobody measures."""

    def add(self, _metric: Metric, _labels: Labels = (), _amount: float = 1) -> None:
        return None

    def observe(self, _metric: Metric, _value: float, _labels: Labels = ()) -> None:
        return None

    def set(self, _metric: Metric, _value: float | None, _labels: Labels = (), *, of: object = None) -> None:
        return None


UNMETERED = Unmetered()
