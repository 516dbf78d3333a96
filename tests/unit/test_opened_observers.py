"""The observers of a process: it says at its end what they did not keep."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.compiled import CompiledGraph
from orchestrator.execution.lane import Options
from orchestrator.execution.stepping import local_lane
from orchestrator.metrics.meter import UNMETERED, Labels, Unmetered
from orchestrator.metrics.metric import PAUSED, Metric
from orchestrator.observers.composite import CompositeObserver
from orchestrator.observers.event import Event, Phase
from rollforward import observers
from rollforward.observers import OpenedObservers, opened_observers
from tests.unit.test_instance_events import Item, Items, wide
from workers.settings import Settings

AWAY = Settings(status="sqlite:////dev/null/rows.db", logs="off")
NOTHING = Settings(status="off", logs="off")


async def of_a_run(settings: Settings, graph: CompiledGraph[Items]) -> OpenedObservers:
    async with opened_observers(settings, UNMETERED) as opened:
        await graph.invoke(Items(items=[1, 2]), observers=opened.keepers)
    return opened


async def test_what_could_not_be_kept_is_a_sentence_that_says_why():
    opened = await of_a_run(AWAY, wide())
    (loss,) = opened.losses()
    assert loss.startswith(
        "6 status rows were lost: they could not be written by the end (the checkpoint store sqlite://"
    )


async def test_where_everything_was_kept_nothing_is_said():
    assert (await of_a_run(NOTHING, wide())).losses() == ()


@pytest.mark.parametrize(("is_stuck", "losses"), [(False, ()), (True, ("3 events were lost: ",))])
async def test_observers_are_waited_for_as_long_as_they_take_events(monkeypatch: Any, is_stuck: bool, losses: Any):
    monkeypatch.setattr(observers, "TOLD_WITHIN_SECONDS", 1.0)
    taken: list[Event] = []

    async def slow(event: Event) -> None:
        await asyncio.sleep(60 if is_stuck and len(taken) == 3 else 0.3)
        taken.append(event)

    graph = wide()
    graph.attach_observer(slow, phases=[Phase.INSTANCE])
    opened = await of_a_run(NOTHING, graph)
    assert len(taken) == (3 if is_stuck else 6)
    assert [loss[: len(start)] for loss, start in zip(opened.losses(), losses, strict=True)] == list(losses)


class Behind:
    """An observer whose rows wait, from the first event on."""

    phases = (Phase.INSTANCE,)
    health: str | None = None

    async def __call__(self, _event: Event) -> None:
        self.health = "status rows wait: away"


async def test_the_health_of_observers_is_that_of_their_run_and_no_pause():
    behind, was_measured, measured = Behind(), asyncio.Event(), list[float]()

    class Gauge(Unmetered):
        def set(self, metric: Metric, value: float | None, _labels: Labels = (), *, of: object = None) -> None:
            if metric is PAUSED and behind.health is not None:
                measured.append(value or 0)
                was_measured.set()

    async def until_measured(_state: Item) -> dict[str, int]:
        await was_measured.wait()
        return {"out": 1}

    options = Options(owner="me", renew_every=timedelta(seconds=0.01), meter=Gauge())
    graph = wide(until_measured)
    handle = await graph.start(
        Items(items=[1]), observers=[CompositeObserver(behind)], lane=local_lane(graph, options), options=options
    )
    await handle.result()
    assert handle.status().health == behind.health
    assert set(measured) == {0}
