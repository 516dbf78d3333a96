"""What an orchestrator counts of the runs that it drives."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backends.telemetry.prometheus import PrometheusMeter
from orchestrator.checkpoint.memory import MemoryStore
from orchestrator.errors import CheckpointUnavailable, Fenced
from orchestrator.execution.lane import Lane, Options
from orchestrator.execution.local import LocalExecutor
from orchestrator.execution.orchestrator import Orchestrator
from orchestrator.fan_out import recorder
from orchestrator.fan_out.measured import Measured
from orchestrator.ledger.memory import MemoryLedger
from orchestrator.metrics import metric
from orchestrator.metrics.metric import METRICS_OF_ORCHESTRATORS
from tests.unit.graph_of_numbers import Numbers, numbers_graph
from tests.unit.test_recorder import LosingExecutor, Unsteady, lane, runtime, until

GRAPH = numbers_graph(concurrency=4, error_policy="collect", errors_field="errors")
ITEMS = [*range(11), -1]


class Measurement:
    """A meter, and what it has measured."""

    def __init__(self) -> None:
        self.meter = PrometheusMeter(METRICS_OF_ORCHESTRATORS)

    def of(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels, whatever others they have."""
        wanted = labels.items()
        found = [one for family in self.meter.registry.collect() for one in family.samples]
        return sum(one.value for one in found if one.name == f"rollforward_{name}" and wanted <= one.labels.items())

    async def run(self, store: Any = None, where: Lane | None = None) -> None:
        options = Options(owner="me", meter=self.meter, renew_every=timedelta(milliseconds=5))
        orchestrator = Orchestrator(store or MemoryStore(), lane=where or lane(), options=options)
        await orchestrator.submit(GRAPH, Numbers(numbers=ITEMS), run_id="r")
        self.handle = await orchestrator.start("r", GRAPH)
        async with asyncio.timeout(20):
            await self.handle.result()

    @property
    def shares(self) -> dict[str, float]:
        """What all gauges come to."""
        kinds = (metric.Kind.GAUGE, metric.Kind.PEAK, metric.Kind.AGE)
        names = [one.name.removeprefix("rollforward_") for one in METRICS_OF_ORCHESTRATORS if one.kind in kinds]
        return {name: self.of(name) for name in names}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SWEEP_SECONDS", 0.01)


@pytest.fixture
def measured() -> Measurement:
    return Measurement()


async def while_it_runs(measured: Measurement, is_so: Callable[[], bool], **options: Any) -> None:
    """Wait until something is so in the middle of a run, then give the run up."""
    task = asyncio.create_task(measured.run(**options))
    await until(lambda: is_so() or task.done())
    assert not task.done()
    await measured.handle.detach()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_instance_is_counted_once_by_how_it_ended(measured):
    await measured.run()
    names = {"graph": GRAPH.name, "fan_out": "squares"}
    assert measured.of("instances_queued_total", **names) == 12
    assert measured.of("instances_recorded_total", outcome="succeeded", **names) == 11
    assert measured.of("instances_recorded_total", outcome="failed", **names) == 1
    assert measured.of("instance_duration_seconds_count", **names) == 12
    assert measured.of("record_batch_instances_sum") == 12
    assert measured.of("record_commit_seconds_count") == measured.of("record_batch_instances_count")
    assert measured.of("runs_taken_total", graph=GRAPH.name) == 1
    assert measured.of("runs_ended_total", graph=GRAPH.name, outcome="succeeded") == 1


async def test_what_can_be_alerted_on_is_served_before_it_happens(measured):
    Measured(measured.meter, "graph", "path")
    found = {one.name for family in measured.meter.registry.collect() for one in family.samples if one.value == 0}
    counted = ("instances_recorded", "instances_queued", "instances_requeued", "deliveries_lost", "deliveries_declined")
    assert {f"rollforward_{name}_total" for name in counted} <= found


async def test_no_share_of_a_gauge_outlives_its_run(measured):
    await measured.run()
    assert {name: value for name, value in measured.shares.items() if value} == {}


async def test_a_share_told_after_the_end_is_not_kept(measured):
    one = Measured(measured.meter, "graph", "path")
    one.outstanding(3)
    one.slots(2)
    assert (measured.shares["instances_outstanding"], measured.shares["graph_slots"]) == (3, 2)
    one.ended()
    one.outstanding(4)
    assert {name: value for name, value in measured.shares.items() if value} == {}


async def test_a_lost_delivery_is_counted_once_and_its_instance_queued_again_also_where_the_store_is_away(measured):
    ledger, lost = MemoryLedger(), set[int]()

    def loses(hint: Any) -> bool:
        is_first = hint.index == 3 and not lost
        lost.update({3} if is_first else ())
        return is_first

    store = Unsteady(MemoryStore(), lambda: CheckpointUnavailable("away"), record_losses=1)
    await measured.run(store, lane(ledger, LosingExecutor(ledger, runtime(), loses=loses, kills=True)))
    assert (measured.of("deliveries_lost_total"), store.left) == (1, {"record_losses": 0})
    assert (measured.of("instances_queued_total"), measured.of("instances_requeued_total")) == (12, 1)
    assert measured.of("instances_recorded_total") == 12


async def test_one_that_is_given_up_is_recorded_as_lost_and_not_timed(measured):
    ledger = MemoryLedger()
    killer = LosingExecutor(ledger, runtime(), loses=lambda hint: hint.index == 3, kills=True)
    await measured.run(where=lane(ledger, killer))
    assert measured.of("instances_recorded_total", outcome="lost") == 1
    assert measured.of("deliveries_lost_total") == 3
    assert measured.of("instance_duration_seconds_count") == 11


async def test_a_report_that_cannot_be_recorded_grows_older(measured):
    class Stuck(MemoryStore):
        async def record(self, *_: Any) -> int:
            await asyncio.Event().wait()
            return 0

    await while_it_runs(measured, lambda: measured.of("oldest_unrecorded_age_seconds") > 0.02, store=Stuck())


async def test_an_instance_that_waits_for_a_worker_grows_older(measured):
    ledger = MemoryLedger()
    deaf = LosingExecutor(ledger, runtime(), loses=lambda _hint: True)
    deaf_lane = lane(ledger, deaf)
    await while_it_runs(measured, lambda: measured.of("oldest_queued_age_seconds") > 0.02, where=deaf_lane)


async def test_a_run_without_a_worker_counts_as_paused(measured):
    ledger = MemoryLedger()
    idle = LocalExecutor(ledger, runtime(), slots=0)
    await while_it_runs(
        measured, lambda: measured.of("dispatch_paused", graph=GRAPH.name) == 1, where=lane(ledger, idle)
    )
    assert measured.of("dispatch_paused") == 0
    assert measured.of("runs_ended_total", outcome="submitted") == 1


async def test_a_fenced_orchestrator_is_counted(measured):
    store = Unsteady(MemoryStore(), lambda: Fenced("r", 1), record=1)
    with pytest.raises(Fenced):
        await measured.run(store)
    assert measured.of("orchestrators_fenced_total", graph=GRAPH.name) == 1
    assert measured.of("runs_ended_total", outcome="fenced") == 1
