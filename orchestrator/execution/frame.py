"""Where in a run something is executed, and what it may ask for there."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey, Level, Lineage
from orchestrator.metadata import Metadata
from orchestrator.observers.emitter import Emitter, Unheard
from orchestrator.observers.voice import Voice
from orchestrator.report import Report
from orchestrator.tracing.tracing import Tracing, Untraced

if TYPE_CHECKING:
    from orchestrator.fan_out.plan import Plan
    from orchestrator.graph.graph import Graph
    from orchestrator.observers.site import Site
    from orchestrator.state import State


@dataclass(frozen=True, slots=True)
class Point:
    """Where a graph stopped: its last completed node, and the state after it.

    `metadata` is what had been written by then, in the same invocation or instance.
    """

    node: str
    state: Any
    metadata: Metadata = field(default_factory=dict)


class Journal(Protocol):
    """What remembers the steps of a run."""

    def resume_point(self, graph: "Graph[Any]", frame: "Frame") -> Point | None:
        """Where this graph was when the run stopped; None where it begins at its entry."""

    def enter(self, frame: "Frame", node: str) -> FanOutKey:
        """The key of this entry of a fan-out node: an unfinished entry is entered again."""

    def folded(self, key: FanOutKey, fold: Fold) -> None:
        """Take note of a fold, to be kept with the step of its node."""

    async def save(self, graph: "Graph[Any]", site: "Site", node: str, state: "State") -> None:
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
    """One level of a run: `namespace` names the enclosing nodes and branches, `parents` are the nodes' states.

    `levels` are the enclosing nodes as observers know them. All go from the outermost inwards. `root` is the
    registered graph, wherever in it the frame is.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    root: "Graph[Any]"
    journal: Journal
    fan_outs: FanOuts
    emitter: Emitter = field(default_factory=Unheard)
    tracing: Tracing = field(default_factory=Untraced)
    namespace: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    lineage: Lineage = ()
    parents: tuple["State", ...] = ()
    voice: Voice | None = None

    def inside(self, node: str, state: "State", *, branch: str | None = None) -> "Frame":
        """The frame of the graph that runs inside `node`, or inside one branch of it."""
        inner = (node,) if branch is None else (node, branch)
        return replace(
            self,
            namespace=(*self.namespace, *inner),
            levels=(*self.levels, Level(node, branch=branch)),
            parents=(*self.parents, state),
        )

    def at_instance(self, node: str, index: int, state: "State") -> "Frame":
        """The frame of an instance of the fan-out `node`, as observers know it."""
        return replace(
            self,
            namespace=(*self.namespace, node),
            levels=(*self.levels, Level(node, index=index)),
            parents=(*self.parents, state),
        )
