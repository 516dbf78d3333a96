"""A checked graph, as data: what stepping, routing and lookup need of it."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic

from typing_extensions import TypeVar

from orchestrator.checkpoint.migration import StateMigrations
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.codec import Codec
from orchestrator.errors import EdgeException, RoutingError
from orchestrator.graph.edge import END, Edge, StaticEdge, Target
from orchestrator.graph.enclosing import graphs_along, inner_graphs
from orchestrator.graph.fingerprint import fingerprint_of
from orchestrator.graph.node import FanOutNode, FunctionNode, Node
from orchestrator.graph.origin import module_name
from orchestrator.graph.warning import CompileWarning
from orchestrator.middleware.chain import Middleware
from orchestrator.observers.delivery import DeliverySet
from orchestrator.observers.subscription import Subscription
from orchestrator.state import State
from orchestrator.tracing.tracing import Tracing, Untraced

StateT = TypeVar("StateT", bound=State, covariant=True, default=State)


@dataclass(eq=False, kw_only=True, repr=False)
class Graph(Generic[StateT]):
    """A checked graph. Its nodes and edges do not change any more.

    `edges` holds one edge a node, by the node's name; a node without one leads to END. `module` is where it was
    compiled, and `label` the name it was given, if any. `subscriptions` are the observers attached to it, `tracings`
    those that trace, `deliveries` the queues of its invocations of this process.
    """

    state_class: type[StateT]
    nodes: Mapping[str, Node]
    edges: Mapping[str, Edge]
    entry: str
    module: str
    label: str | None = None
    middleware: tuple[Middleware, ...] = ()
    checkpointer: CheckpointStore | None = None
    warnings: tuple[CompileWarning, ...] = ()
    migrations: StateMigrations = field(default_factory=StateMigrations)
    subscriptions: list[Subscription] = field(default_factory=list, init=False)
    tracings: list[Tracing] = field(default_factory=list, init=False)
    deliveries: DeliverySet = field(default_factory=DeliverySet, init=False)
    _found: str | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return f"<CompiledGraph {self.name} ({self.fingerprint})>"

    @property
    def name(self) -> str:
        """What other processes know it by: the name it was given, else `module:variable`.

        One that is no variable of the module that compiled it goes by its fingerprint.
        """
        if self.label is not None:
            return self.label
        if self._found is None:
            self._found = self._variable()
        return f"{module_name(self.module)}:{self._found or self.fingerprint}"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over structure, schemas, reducers and policies; equal in every process with equal code."""
        return fingerprint_of(self)

    @cached_property
    def codec(self) -> Codec[StateT]:
        return Codec.of(self.state_class)

    @property
    def tracing(self) -> Tracing:
        """What traces its invocations: the one attached last."""
        return self.tracings[-1] if self.tracings else Untraced()

    @cached_property
    def tells(self) -> bool:
        """Whether an instance of it has something to keep while it runs: fan-outs inside it, or durable nodes."""
        nodes = (node for graph in inner_graphs(self) for node in graph.nodes.values())
        return any(isinstance(node, FanOutNode) or (isinstance(node, FunctionNode) and node.durable) for node in nodes)

    def next_node(self, name: str, state: State) -> Target:
        """Where the edge out of a node leads with the state after it.

        Raises:
            EdgeException: the edge's function raised.
            RoutingError: it named no node.
        """
        edge = self.edges.get(name)
        if edge is None:
            return END
        if isinstance(edge, StaticEdge):
            return edge.target
        try:
            target = edge.choose(state)
        except Exception as error:
            raise EdgeException(name, error, recoverable_state=state) from error
        if target is END or (isinstance(target, str) and target in self.nodes):
            return target
        raise RoutingError(name, target, recoverable_state=state)

    def node_at(self, path: Sequence[str]) -> Node:
        """The node of that name, found through the nodes and branches named before it.

        Raises:
            LookupError: there is none.
        """
        try:
            return graphs_along(self, path[:-1])[-1].nodes[path[-1]]
        except (LookupError, StopIteration):
            told = f"graph {self.name} has no node {'/'.join(path)!r}; it was changed, or never had it"
            raise LookupError(told) from None

    def fan_out_at(self, path: Sequence[str]) -> FanOutNode:
        """`node_at`, where a fan-out is meant.

        Raises:
            LookupError: there is none.
        """
        node = self.node_at(path)
        if not isinstance(node, FanOutNode):
            raise LookupError(f"node {'/'.join(path)!r} of graph {self.name} is no fan-out; it was changed")
        return node

    def _variable(self) -> str | None:
        module = sys.modules.get(self.module)
        variables = {} if module is None else vars(module)
        return next((name for name, value in list(variables.items()) if value is self), None)
