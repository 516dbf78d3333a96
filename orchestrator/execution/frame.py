"""Where in a run something is executed, and what it may ask for there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey, Lineage
from orchestrator.report import Report

if TYPE_CHECKING:
    from orchestrator.fan_out.plan import Plan
    from orchestrator.graph.graph import Graph
    from orchestrator.state import State


@dataclass(frozen=True, slots=True)
class Point:
    """Where a graph stopped: its last completed node, and the state after it."""

    node: str
    state: Any


class Journal(Protocol):
    """What remembers the steps of a run."""

    def resume_point(self, graph: "Graph[Any]", frame: "Frame") -> Point | None:
        """Where this graph was when the run stopped; None where it begins at its entry."""

    def enter(self, frame: "Frame", node: str) -> FanOutKey:
        """The key of this entry of a fan-out node: an unfinished entry is entered again."""

    def folded(self, key: FanOutKey, fold: Fold) -> None:
        """Take note of a fold, to be kept with the step of its node."""

    async def save(self, graph: "Graph[Any]", frame: "Frame", node: str, state: "State") -> None:
        """Keep a completed node and the state after it; durable once this returns."""


class FanOuts(Protocol):
    """What brings the instances of a fan-out to their end."""

    async def run(self, plan: "Plan", frame: "Frame") -> Sequence[Report]:
        """Run the instances that are not recorded yet; give all contributions in index order.

        Raises:
            InstanceFailure, Exception: under `fail_fast`, why the first failed instance failed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One level of a run: `namespace` names the enclosing nodes, `parents` are their states, outermost first.

    `graph_name` and `fingerprint` are the registered graph's, wherever in it the frame is.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    graph_name: str
    fingerprint: str
    journal: Journal
    fan_outs: FanOuts
    namespace: tuple[str, ...] = ()
    lineage: Lineage = ()
    parents: tuple["State", ...] = ()

    def inside(self, node: str, state: "State") -> "Frame":
        """The frame of the graph that runs inside `node`."""
        return replace(self, namespace=(*self.namespace, node), parents=(*self.parents, state))
