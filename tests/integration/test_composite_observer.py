"""Several observers of real runs as one, in this process and on a real worker."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.opening import open_status
from orchestrator.observers.composite import CompositeObserver
from orchestrator.observers.event import Event, InstanceEvent, InstanceLogEvent, Phase
from orchestrator.status.observer import StatusObserver
from tests.graph.statuses import Files, Folders, collecting, nested
from tests.service.observing import Place


@pytest.fixture
async def status(tmp_path: Path) -> AsyncIterator[StatusObserver]:
    """An observer with a database of its own."""
    observer = StatusObserver(open_status(f"sqlite:///{tmp_path}/state.db", namespace="observed"))
    yield observer
    await observer.close()


class Listening:
    """Keeps what it is told."""

    def __init__(self, *phases: Phase) -> None:
        self.phases = frozenset(phases)
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)


async def raising(_event: Event) -> None:
    raise RuntimeError("no")


async def test_forwards_to_each_child_what_it_wants(place: Place, status: StatusObserver):
    nodes = Listening(Phase.STARTED)
    await place.invoked(collecting, Files(acts=["ok", "fail"]), CompositeObserver(status, nodes))
    assert len(await status.get_status(latest=True)) == 4
    # The four attempts at the node of the instance that fails twice, and those of the others.
    assert sum(event.node_name == "work" for event in nodes.events) == 6
    assert {type(event).__name__ for event in nodes.events} == {"NodeEvent"}


async def test_isolates_children_from_one_that_raises(
    place: Place, status: StatusObserver, caplog: pytest.LogCaptureFixture
):
    composite = CompositeObserver(raising, status)
    with caplog.at_level(logging.ERROR):
        done = await place.invoked(collecting, Files(acts=["ok"]), composite)
    assert len(done.pids) == 1
    assert len(await status.get_status(state="SUCCESS")) == 2
    failed, of_status = composite.failed
    assert (failed > 0, of_status) == (True, 0)
    assert [record.message for record in caplog.records] == ["observer failed"] * failed


async def test_logger_lines_go_to_every_child_that_wants_them(place: Place, status: StatusObserver):
    first, second = Listening(Phase.LOGGED), Listening(Phase.LOGGED)
    await place.invoked(collecting, Files(acts=["say"]), CompositeObserver(first, status, second))
    lines = [line.text for event in first.events if isinstance(event, InstanceLogEvent) for line in event.lines]
    assert "said by an instance" in lines
    assert first.events == second.events


async def test_contextual_facts_of_an_event_are_the_same_for_every_child(place: Place, status: StatusObserver):
    listening = Listening(Phase.INSTANCE)
    await place.invoked(nested, Folders(folders=[["ok"], ["ok"]]), CompositeObserver(listening, status))
    told = {
        (event.run_id, event.namespace, event.fan_out_index, event.state)
        for event in listening.events
        if isinstance(event, InstanceEvent)
    }
    assert told == {(row.run_id, row.node, row.index, row.state) for row in await status.get_status()}
    assert {len(event.fan_out_index_chain) for event in listening.events} == {1, 2}
