"""What is measured of a drive as a whole."""

from typing import TYPE_CHECKING

from orchestrator.checkpoint.row import RunStatus
from orchestrator.errors import Fenced
from orchestrator.execution.drive import Drive, StateT
from orchestrator.metrics import metric
from orchestrator.metrics.meter import Meter

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

FENCED = "fenced"
LAPSED = "lapsed"
"""The store was away when the run was to be given up: its lease ends by itself."""


async def measured(drive: Drive[StateT], graph: "Graph[StateT]", meter: Meter) -> StateT:
    """Drive a run, and count that it was taken up and what it came to; as `Drive.drive` otherwise."""
    labels, outcome = (graph.name,), None
    meter.add(metric.RUNS_TAKEN, labels)
    # Seen before it happens, so that a first time is seen as one more.
    meter.add(metric.FENCED, labels, 0)
    meter.add(metric.RUNS_ENDED, (graph.name, RunStatus.FAILED.value), 0)
    meter.set(metric.RUNS_DRIVEN, 1, labels, of=drive)
    try:
        return await drive.drive()
    except Fenced:
        outcome = FENCED
        meter.add(metric.FENCED, labels)
        raise
    finally:
        outcome = outcome or (LAPSED if drive.status is RunStatus.RUNNING else drive.status.value)
        meter.add(metric.RUNS_ENDED, (graph.name, outcome))
        for gauge in (metric.RUNS_DRIVEN, metric.PAUSED):
            meter.set(gauge, None, labels, of=drive)
