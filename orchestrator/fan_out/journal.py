"""What an instance remembers of its own steps: nothing that outlives it, since it begins at its entry again."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestrator.execution.frame import Frame, Point
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import FanOutKey
from orchestrator.report import Position

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.observers.site import Site
    from orchestrator.state import State


class InstanceJournal:
    """The journal inside an instance.

    The entries of a nested fan-out are counted from 0 in every delivery: an instance that runs again enters the same
    ones in the same order, and finds what they have recorded.
    """

    def __init__(self) -> None:
        self.folds: tuple[Fold, ...] = ()
        self.positions: tuple[Position, ...] = ()
        self._entries: Counter[FanOutKey] = Counter()

    def resume_point(self, _graph: "Graph[Any]", _frame: Frame) -> Point | None:
        return None

    def enter(self, frame: Frame, node: str) -> FanOutKey:
        first = FanOutKey(frame.namespace, node, frame.lineage)
        visit = self._entries[first]
        self._entries[first] += 1
        return FanOutKey(frame.namespace, node, frame.lineage, visit)

    def folded(self, _key: FanOutKey, fold: Fold) -> None:
        self.folds = (*self.folds, fold)

    async def save(self, _graph: "Graph[Any]", site: "Site", node: str, _state: "State") -> None:
        self.positions = (*self.positions, Position(site.frame.namespace, node, max(site.step, 0), site.attempt_index))
