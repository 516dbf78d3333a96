"""What checks read again and again of a case that was played."""

from collections.abc import Callable
from typing import Any

from orchestrator.graph.node import FanOutNode
from orchestrator.observers.event import NodeEvent, Phase
from tests.conformance.expectation import as_json
from tests.conformance.running import Played, Run

Check = Callable[[Played, Run, Any], Any]
"""Gives the value that a fixture states; the third argument is that one."""


def final(run: Run) -> dict[str, Any]:
    values: dict[str, Any] = as_json(run.final)
    return values


def first(played: Played) -> Run:
    return played.runs[0]


def completed(run: Run, node: str | None = None) -> list[NodeEvent]:
    events = [event for event in run.nodes if event.phase is Phase.COMPLETED]
    return [event for event in events if node in (None, event.node_name)]


def started(run: Run, node: str | None = None) -> list[NodeEvent]:
    events = [event for event in run.nodes if event.phase is Phase.STARTED]
    return [event for event in events if node in (None, event.node_name)]


def the_fan_out(played: Played) -> FanOutNode:
    """The only one of the case's graph."""
    assert played.graph is not None
    (node,) = [node for node in played.graph.nodes.values() if isinstance(node, FanOutNode)]
    return node
