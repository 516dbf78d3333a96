"""What is measured of one fan-out while its orchestrator has it open."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.checkpoint.row import SlotRow
from orchestrator.ledger.view import LiveInstance, LiveState
from orchestrator.metrics import metric
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.metrics.metric import Metric
from orchestrator.report import Outcome

if TYPE_CHECKING:
    from orchestrator.identity import Slot


class Measured:
    """Tells a meter of one fan-out; its shares in the gauges are gone once it has ended."""

    def __init__(self, meter: Meter = UNMETERED, graph: str = "", fan_out: str = "") -> None:
        self._meter = meter
        self._labels = (graph, fan_out)
        self._waiting_since: float | None = None
        self._queued_since: dict[Slot, float] = {}
        self._is_over = False
        # A rate is told from the second sample on: the first must not be that of what is to be told.
        for counter in (metric.QUEUED, metric.REQUEUED, metric.LOST, metric.DECLINED):
            meter.add(counter, self._labels, 0)
        for outcome in Outcome:
            meter.add(metric.RECORDED, (*self._labels, outcome.value), 0)

    @property
    def is_wanted(self) -> bool:
        """Whether what costs something to learn is worth it."""
        return self._meter is not UNMETERED

    def queued(self, count: int, *, again: int) -> None:
        """So many were queued, of which so many were in the ledger before."""
        self._meter.add(metric.QUEUED, self._labels, count - again)
        self._meter.add(metric.REQUEUED, self._labels, again)

    def slots(self, count: int) -> None:
        """Live workers have so many places for it."""
        self._share(metric.GRAPH_SLOTS, count)

    def outstanding(self, count: int) -> None:
        """So many are queued and not recorded."""
        self._share(metric.OUTSTANDING, count)

    def seen(self, live: Iterable[LiveInstance]) -> None:
        """The ledger has these in flight now."""
        counts: Counter[LiveState] = Counter()
        queued: dict[Slot, float] = {}
        for one in live:
            counts[one.state] += 1
            if one.state is LiveState.QUEUED:
                queued[one.slot] = self._queued_since.get(one.slot) or time.monotonic()
        self._queued_since = queued
        for state in LiveState:
            self._share(metric.LIVE, counts[state], state.value)
        self._share(metric.OLDEST_QUEUED, min(queued.values(), default=None))

    def reported(self, count: int) -> None:
        """So many reports are about to be recorded, or are still to be."""
        if count and self._waiting_since is None:
            self._waiting_since = time.monotonic()
            self._share(metric.OLDEST_UNRECORDED, self._waiting_since)

    def recorded(self, rows: Sequence[SlotRow], seconds: float) -> None:
        """These were recorded in one commit, and no other report waits."""
        self._waiting_since = None
        self._share(metric.OLDEST_UNRECORDED, None)
        if not rows or not self.is_wanted:
            return
        self._meter.observe(metric.BATCH, len(rows))
        self._meter.observe(metric.COMMIT, seconds)
        outcomes = Counter(row.report.outcome for row in rows)
        for outcome, count in outcomes.items():
            self._meter.add(metric.RECORDED, (*self._labels, outcome.value), count)
        # One that was given up was never timed.
        for report in (row.report for row in rows if row.report.outcome is not Outcome.LOST):
            self._meter.observe(metric.DURATION, report.duration_seconds, (*self._labels, report.outcome.value))

    def lost(self, count: int) -> None:
        """So many deliveries were lost."""
        self._meter.add(metric.LOST, self._labels, count)

    def declined(self) -> None:
        """A worker could not run one."""
        self._meter.add(metric.DECLINED, self._labels)

    def ended(self) -> None:
        """It is open here no more, whatever is still told of it."""
        for one in (metric.OUTSTANDING, metric.OLDEST_QUEUED, metric.OLDEST_UNRECORDED, metric.GRAPH_SLOTS):
            self._share(one, None)
        for state in LiveState:
            self._share(metric.LIVE, None, state.value)
        self._is_over = True

    def _share(self, gauge: Metric, value: float | None, *more: str) -> None:
        if not self._is_over:
            self._meter.set(gauge, value, (*self._labels, *more), of=self)
