"""Several observers as one: each is told what it wants, and none is in another's way."""

import asyncio
import logging
from typing import Any

import pytest

from orchestrator.observers.composite import CompositeObserver
from orchestrator.observers.event import Event, Phase
from orchestrator.observers.observation import Observation
from orchestrator.tracing.tracing import Untraced
from tests.unit.test_instance_events import Items, Listening, wide


class Raising(Listening):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def __call__(self, event: Event) -> None:
        await super().__call__(event)
        raise self.error


async def test_it_wants_what_any_child_wants_and_each_is_told_its_own():
    instances, nodes = Listening(Phase.INSTANCE), Listening(Phase.STARTED, Phase.COMPLETED)
    plain: list[Event] = []

    async def observe(event: Event) -> None:
        plain.append(event)

    composite = CompositeObserver(instances, nodes, observe)
    assert composite.phases == {Phase.INSTANCE, Phase.STARTED, Phase.COMPLETED}
    graph = wide()
    await graph.invoke(Items(items=[1, 2]), observers=[composite])
    await graph.drain()
    assert {type(event).__name__ for event in instances.events} == {"InstanceEvent"}
    assert {type(event).__name__ for event in nodes.events} == {"NodeEvent"}
    assert plain == nodes.events


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError(), BaseException("a panic")])
async def test_a_child_that_raises_is_counted_and_logged_and_its_siblings_are_told(
    caplog: pytest.LogCaptureFixture, error: BaseException
):
    first, raising, last = Listening(), Raising(error), Listening()
    composite = CompositeObserver(first, raising, last)
    graph = wide()
    with caplog.at_level(logging.ERROR):
        done = await graph.invoke(Items(items=[1, 2]), observers=[composite])
        await graph.drain()
    assert done.outs == [2, 4]
    assert len(first.events) == len(raising.events) == len(last.events) == 6
    assert composite.failed == (0, 6, 0)
    assert [record.message for record in caplog.records] == ["observer failed"] * 6


async def test_composites_nest_and_close_what_can_be_closed():
    closed: list[str] = []

    class Closing(Listening):
        async def close(self) -> None:
            closed.append("closed")
            raise OSError("late")

    composite = CompositeObserver(CompositeObserver(Closing()), Listening())
    assert composite.phases == {Phase.INSTANCE}
    await composite.close()
    assert closed == ["closed"]


def test_a_child_that_traces_is_found_and_told_no_events():
    tracing: Any = Untraced()
    observation = Observation.by([CompositeObserver(tracing, Listening())])
    assert observation.tracing is tracing
    assert [subscription.phases for subscription in observation.subscriptions] == [{Phase.INSTANCE}]
    assert CompositeObserver(tracing).phases == frozenset()


async def test_a_composite_that_is_attached_to_a_graph_traces_it_too():
    tracing: Any = Untraced()
    graph = wide()
    handle = graph.attach_observer(CompositeObserver(tracing, Listening()))
    assert graph.tracing is tracing
    handle.remove()
    assert graph.tracing is not tracing
    assert graph.subscriptions == []
