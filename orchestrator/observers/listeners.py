"""Who is told of the events of an invocation."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from orchestrator.graph.enclosing import graphs_along, inner_graphs
from orchestrator.observers.emitter import Path
from orchestrator.observers.event import Phase
from orchestrator.observers.subscription import Subscription, health_of

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph


class Listeners:
    """The observers of a graph, of the graphs inside it, and of one invocation, as they are when it begins."""

    def __init__(self, root: "Graph[Any]", invocation: Sequence[Subscription]) -> None:
        self._root = root
        self._invocation = tuple(invocation)
        self._attached = {id(graph): tuple(graph.subscriptions) for graph in inner_graphs(root)}

    @property
    def wanted(self) -> frozenset[Phase]:
        """What anybody is told of."""
        return frozenset[Phase]().union(*(subscription.phases for subscription in self._all()))

    @property
    def health(self) -> str | None:
        """Why one of them is behind, as it says itself."""
        return health_of(subscription.observer for subscription in self._all())

    def of(self, path: Path) -> Iterator[Subscription]:
        """Who is told of an event of the graph there: those of outer graphs, then of inner ones, then the call's."""
        told = None
        for graph in graphs_along(self._root, path):
            if graph is not told:
                yield from self._attached[id(graph)]
            told = graph
        yield from self._invocation

    def _all(self) -> Iterator[Subscription]:
        return chain(self._invocation, *self._attached.values())
