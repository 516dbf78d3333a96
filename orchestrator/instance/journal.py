"""What an instance remembers of its own steps, and what of it outlives a delivery."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.checkpoint.migration import load_state
from orchestrator.checkpoint.row import Step
from orchestrator.execution.frame import Frame, Point
from orchestrator.execution.journal import points
from orchestrator.fan_out.fold import Fold
from orchestrator.graph.node import FunctionNode
from orchestrator.identity import FanOutKey, Lineage
from orchestrator.instance.kept import Kept, Reached
from orchestrator.metadata import Metadata
from orchestrator.report import Position
from orchestrator.scope import changed_metadata

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.observers.site import Site
    from orchestrator.state import State


@dataclass(frozen=True, slots=True)
class Completed:
    """The last completed node of one graph inside the instance, which is still open, and the state after it."""

    graph: "Graph[Any]"
    site: "Site"
    node: str
    state: "State"
    metadata: Metadata

    def step(self, lineage: Lineage, folds: tuple[Fold, ...]) -> Step:
        return Step(
            position=0,
            namespace=self.site.frame.namespace,
            node=self.node,
            state=self.graph.codec.dump(self.state),
            step=max(self.site.step, 0),
            attempt_index=self.site.attempt_index,
            lineage=lineage,
            invocation_id=self.site.frame.invocation_id,
            schema_version=self.graph.state_class.schema_version,
            folds=folds,
            metadata=self.metadata,
        )


class InstanceJournal:
    """The journal inside an instance: it begins at its entry again, or after its last durable node.

    The entries of a nested fan-out are counted from 0 in every delivery: an instance that runs again enters the same
    ones in the same order, and finds what they have kept.
    """

    def __init__(self, lineage: Lineage, kept: Kept | None) -> None:
        reached = Reached() if kept is None else kept.reached(lineage)
        self.folds: tuple[Fold, ...] = ()
        self.positions = tuple(Position(s.namespace, s.node, s.step, s.attempt_index) for s in reached.steps)
        self._lineage = lineage
        self._kept = kept
        self._points = points(reached.steps)
        self._entries = Counter(reached.entered)
        self._unkept: dict[tuple[str, ...], Completed] = {}

    def resume_point(self, graph: "Graph[Any]", frame: Frame) -> Point | None:
        step = self._points.pop(frame.namespace, None)
        if step is None:
            return None
        state = load_state(graph, step.state, step.schema_version, frame.root.migrations)
        return Point(step.node, state, step.metadata)

    def enter(self, frame: Frame, node: str) -> FanOutKey:
        first = FanOutKey(frame.namespace, node, frame.lineage)
        visit = self._entries[first]
        self._entries[first] += 1
        return FanOutKey(frame.namespace, node, frame.lineage, visit)

    def folded(self, _key: FanOutKey, fold: Fold) -> None:
        self.folds = (*self.folds, fold)

    async def save(self, graph: "Graph[Any]", site: "Site", node: str, state: "State") -> None:
        namespace = site.frame.namespace
        self.positions = (*self.positions, Position(namespace, node, max(site.step, 0), site.attempt_index))
        for inner in [level for level in self._unkept if level[: len(namespace)] == namespace]:
            del self._unkept[inner]
        self._unkept[namespace] = Completed(graph, site, node, state, changed_metadata())
        completed = graph.nodes[node]
        if self._kept is not None and isinstance(completed, FunctionNode) and completed.durable:
            await self._keep(self._kept, namespace)
            site.span.saved()

    async def _keep(self, kept: Kept, namespace: tuple[str, ...]) -> None:
        """Keep the node that was completed there, and where the graphs around it are."""
        around = sorted(level for level in self._unkept if level == namespace[: len(level)])
        await kept.complete([self._unkept.pop(level).step(self._lineage, self.folds) for level in around])
