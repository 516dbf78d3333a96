"""Every metric that there is, declared once: what is exported, charted, alerted on and documented."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric behaves.

    Of a gauge, each process may hold many shares: what is shown is their sum, or the largest of them for a `PEAK`. Of
    an `AGE` the shares are times of `time.monotonic`: what is shown is how long ago the earliest was, 0 where there
    is none, and it grows also while nobody tells anything.
    """

    COUNTER = "counter"
    GAUGE = "gauge"
    PEAK = "peak"
    AGE = "age"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its full name, whose last words say its unit; of its labels no one has many values."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_FAN_OUT = ("graph", "fan_out")
_BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_BEAT_SECONDS = (0.5, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 60, 120)

QUEUED = Metric(
    "rollforward_instances_queued_total",
    Kind.COUNTER,
    "Instances put up for claiming that the ledger did not hold.",
    _FAN_OUT,
)
REQUEUED = Metric(
    "rollforward_instances_requeued_total",
    Kind.COUNTER,
    "Instances put up for claiming again: their delivery or their message was lost.",
    _FAN_OUT,
)
OUTSTANDING = Metric(
    "rollforward_instances_outstanding", Kind.GAUGE, "Instances in flight: queued and not recorded yet.", _FAN_OUT
)
LIVE = Metric(
    "rollforward_instances_live",
    Kind.GAUGE,
    "Instances in flight by where they stand, as the ledger had it a second ago at most.",
    (*_FAN_OUT, "state"),
)
RECORDED = Metric(
    "rollforward_instances_recorded_total", Kind.COUNTER, "Instances recorded, each once.", (*_FAN_OUT, "outcome")
)
DURATION = Metric(
    "rollforward_instance_duration_seconds",
    Kind.HISTOGRAM,
    "How long the recorded delivery of an instance took.",
    (*_FAN_OUT, "outcome"),
    _LONG_SECONDS,
)
LOST = Metric(
    "rollforward_deliveries_lost_total", Kind.COUNTER, "Deliveries whose worker ended without a report.", _FAN_OUT
)
DECLINED = Metric(
    "rollforward_deliveries_declined_total",
    Kind.COUNTER,
    "Deliveries to workers that lack this version of the graph.",
    _FAN_OUT,
)
OLDEST_QUEUED = Metric(
    "rollforward_oldest_queued_age_seconds",
    Kind.AGE,
    "For how long this orchestrator has seen an instance wait for a worker.",
    _FAN_OUT,
)
OLDEST_UNRECORDED = Metric(
    "rollforward_oldest_unrecorded_age_seconds",
    Kind.AGE,
    "For how long a report has waited to be recorded.",
    _FAN_OUT,
)
GRAPH_SLOTS = Metric(
    "rollforward_graph_slots", Kind.PEAK, "Places of the live workers that have the graph of an open fan-out.", _FAN_OUT
)
BATCH = Metric(
    "rollforward_record_batch_instances", Kind.HISTOGRAM, "How many instances one commit records.", (), _BATCH_SIZES
)
COMMIT = Metric(
    "rollforward_record_commit_seconds", Kind.HISTOGRAM, "How long such a commit takes.", (), _SHORT_SECONDS
)
RUNS_TAKEN = Metric("rollforward_runs_taken_total", Kind.COUNTER, "Runs taken up, new or resumed.", ("graph",))
RUNS_ENDED = Metric(
    "rollforward_runs_ended_total",
    Kind.COUNTER,
    "Runs given up, by what they came to; `submitted` were handed back, `fenced` are another's.",
    ("graph", "outcome"),
)
RUNS_DRIVEN = Metric("rollforward_runs_driven", Kind.GAUGE, "Runs that this process drives now.", ("graph",))
FENCED = Metric(
    "rollforward_orchestrators_fenced_total",
    Kind.COUNTER,
    "Times that this orchestrator found a run to be another's by now, and stopped.",
    ("graph",),
)
PAUSED = Metric(
    "rollforward_dispatch_paused",
    Kind.GAUGE,
    "Runs that wait for a worker, a service, or room in the ledger; `rollforward status` says for which.",
    ("graph",),
)
ROWS_DROPPED = Metric(
    "rollforward_rows_dropped_total",
    Kind.COUNTER,
    "Status rows and lines of output that were given up, because they could not be written.",
    ("rows",),
)
WORKER_DELIVERIES = Metric(
    "rollforward_worker_deliveries_total", Kind.COUNTER, "Instances that this worker claimed.", ("graph",)
)
WORKER_REPORTS = Metric(
    "rollforward_worker_reports_total",
    Kind.COUNTER,
    "Reports by the ledger's answer; a stale one is of an instance that is another's, one that is over of a past run.",
    ("answer",),
)
WORKER_DECLINED = Metric(
    "rollforward_worker_declined_total", Kind.COUNTER, "Instances that this worker lacks the graph for."
)
WORKER_LEASES = Metric("rollforward_worker_leases", Kind.GAUGE, "Instances that this worker holds now.")
BEAT_GAP = Metric(
    "rollforward_worker_lease_gap_seconds",
    Kind.HISTOGRAM,
    "Time between two beats of a lease that the ledger heard; it must not reach ROLLFORWARD_LEASE_SECONDS.",
    (),
    _BEAT_SECONDS,
)
WORKER_SLOTS = Metric("rollforward_worker_slots", Kind.GAUGE, "Places of this worker.", ("worker",))
WORKER_FREE = Metric("rollforward_worker_slots_free", Kind.GAUGE, "Places that nothing occupies.", ("worker",))
WORKER_REFUSED = Metric(
    "rollforward_worker_refused_messages_total",
    Kind.COUNTER,
    "Messages that are not ours, or were changed on their way.",
    ("worker",),
)

WORKER_SPANS_DROPPED = Metric(
    "rollforward_worker_spans_dropped_total", Kind.COUNTER, "Spans of this worker that no collector took."
)

METRICS_OF_ORCHESTRATORS = (
    QUEUED,
    REQUEUED,
    OUTSTANDING,
    LIVE,
    RECORDED,
    DURATION,
    LOST,
    DECLINED,
    OLDEST_QUEUED,
    OLDEST_UNRECORDED,
    GRAPH_SLOTS,
    BATCH,
    COMMIT,
    RUNS_TAKEN,
    RUNS_ENDED,
    RUNS_DRIVEN,
    FENCED,
    PAUSED,
    ROWS_DROPPED,
)
METRICS_OF_WORKER_PROCESSES = (
    WORKER_DELIVERIES,
    WORKER_REPORTS,
    WORKER_DECLINED,
    WORKER_LEASES,
    BEAT_GAP,
    WORKER_SPANS_DROPPED,
)
METRICS_OF_WORKERS = (WORKER_SLOTS, WORKER_FREE, WORKER_REFUSED)
METRICS = (*METRICS_OF_ORCHESTRATORS, *METRICS_OF_WORKER_PROCESSES, *METRICS_OF_WORKERS)
