"""How users put a graph together."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import FrameType, MappingProxyType
from typing import Any, Generic, Literal, Required, Self, TypedDict, TypeVar, Unpack

from orchestrator.checkpoint.migration import StateMigration, StateMigrations
from orchestrator.checkpoint.protocol import CheckpointStore
from orchestrator.compiled import CompiledGraph
from orchestrator.errors import CompileError
from orchestrator.graph.blueprint import Blueprint
from orchestrator.graph.check import check
from orchestrator.graph.edge import Choice, ConditionalEdge, Edge, StaticEdge, Target
from orchestrator.graph.node import (
    BranchSpec,
    ErrorPolicy,
    FanOutNode,
    FunctionNode,
    ItemReader,
    Node,
    OnEmpty,
    ParallelBranchesNode,
    RunOn,
    SubgraphNode,
)
from orchestrator.graph.projection import ExplicitMapping, FieldNameMatching, Projection
from orchestrator.graph.registry import registry
from orchestrator.middleware.chain import Middleware
from orchestrator.state import State

StateT = TypeVar("StateT", bound=State)


class FanOutOptions(TypedDict, total=False):
    """What `add_fan_out_node` takes; see `FanOutNode`."""

    subgraph: Required[CompiledGraph[Any]]
    collect_field: Required[str]
    target_field: Required[str]
    items_field: str | None
    item_field: str | None
    count: int | Callable[[Any], int] | None
    concurrency: int | Callable[[Any], int | None] | Literal["auto"] | None
    error_policy: ErrorPolicy
    on_empty: OnEmpty
    count_field: str | None
    errors_field: str | None
    inputs: Mapping[str, str] | None
    extra_outputs: Mapping[str, str] | None
    instance_middleware: Sequence[Middleware] | None
    middleware: Sequence[Middleware] | None
    key: ItemReader | None
    tags: Mapping[str, ItemReader] | Iterable[str] | None
    run_on: RunOn
    queue: str | None
    time_limit: timedelta | None
    subgraph_identity: str | None


class GraphBuilder(Generic[StateT]):
    """Collects nodes and edges over one state class; `compile` checks them and gives the graph.

    Every method but `compile` gives the builder itself, so that calls can be chained.
    """

    def __init__(self, state_class: type[StateT]) -> None:
        self._state_class = state_class
        self._nodes: dict[str, Node] = {}
        self._edges: list[Edge] = []
        self._entry: str | None = None
        self._middleware: list[Middleware] = []
        self._checkpointer: CheckpointStore | None = None
        self._migrations: tuple[StateMigration, ...] = ()
        self._problems: list[CompileError] = []

    def add_node(
        self,
        name: str,
        function: Callable[[Any], Any],
        *,
        middleware: Sequence[Middleware] | None = None,
        durable: bool = False,
    ) -> Self:
        """Add a function `(state) -> partial update`: async, or plain and then run in a thread.

        Args:
            name: the node's name.
            function: what it does.
            middleware: wrappers around it, the outermost first.
            durable: inside a fan-out's instance, keep the state after this node before going on, so that an instance
                which loses its worker goes on after it; else it begins at its entry again. One write each time.

        Raises:
            ValueError: there is a node of that name.
        """
        if not callable(function):
            raise ValueError(f"node {name!r} needs a function of the state, and {function!r} cannot be called")
        return self._add(
            FunctionNode(name=name, function=function, middleware=tuple(middleware or ()), durable=durable)
        )

    def add_subgraph_node(
        self,
        name: str,
        compiled: CompiledGraph[Any],
        projection: Projection | None = None,
        *,
        middleware: Sequence[Middleware] | None = None,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
    ) -> Self:
        """Add a compiled graph as a node.

        Args:
            name: the node's name.
            compiled: the graph.
            projection: what crosses the boundary; by default, fields that both have come out, and nothing goes in.
            middleware: wrappers around the whole subgraph, the outermost first.
            inputs: subgraph field to outer field; short for `ExplicitMapping(inputs=...)`.
            outputs: outer field to subgraph field; short for `ExplicitMapping(outputs=...)`.

        Raises:
            ValueError: there is a node of that name.
        """
        is_mapped = inputs is not None or outputs is not None
        if is_mapped and projection is not None:
            self._problems.append(_two_projections(name))
        if is_mapped:
            projection = ExplicitMapping(inputs=inputs or {}, outputs=outputs)
        return self._add(
            SubgraphNode(
                name=name,
                graph=compiled,
                projection=projection or FieldNameMatching(),
                middleware=tuple(middleware or ()),
            )
        )

    def add_fan_out_node(self, name: str, **options: Unpack[FanOutOptions]) -> Self:
        """Add a node that runs a subgraph once per item; `FanOutNode` says what the options mean.

        `subgraph`, `collect_field` and `target_field` are needed, and either `items_field` with `item_field` or
        `count`.

        Raises:
            ValueError: there is a node of that name, or an option has a value that it cannot have.
        """
        given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
        for option in ("middleware", "instance_middleware"):
            given[option] = tuple(given.get(option, ()))
        given["tags"] = _by_name(given.get("tags", ()))
        if "concurrency" in options:
            given["concurrency"] = options["concurrency"]  # None has a meaning: no bound
        return self._add(FanOutNode(name=name, **given))

    def add_parallel_branches_node(
        self,
        name: str,
        *,
        branches: Mapping[str, BranchSpec],
        error_policy: ErrorPolicy = "fail_fast",
        errors_field: str | None = None,
        middleware: Sequence[Middleware] | None = None,
    ) -> Self:
        """Add a node that runs different branches at once; see `ParallelBranchesNode` and `BranchSpec`.

        Raises:
            ValueError: there is a node of that name, or the policy is none.
        """
        node = ParallelBranchesNode(
            name=name,
            branches=dict(branches),
            error_policy=error_policy,
            errors_field=errors_field,
            middleware=tuple(middleware or ()),
        )
        return self._add(node)

    def add_edge(self, source: str, target: Target) -> Self:
        """Let `source` always lead to `target`, a node's name or END."""
        self._edges.append(StaticEdge(source, target))
        return self

    def add_conditional_edge(self, source: str, choose: Choice) -> Self:
        """Let `source` lead where `choose(state)` says: to a node's name or to END.

        Raises:
            ValueError: `choose` is no plain function.
        """
        if not callable(choose) or inspect.iscoroutinefunction(choose):
            raise ValueError(f"the edge out of {source!r} needs a plain function of the state, not {choose!r}")
        self._edges.append(ConditionalEdge(source, choose))
        return self

    def set_entry(self, name: str) -> Self:
        """Begin at this node; a second call replaces the first."""
        self._entry = name
        return self

    def add_middleware(self, middleware: Middleware) -> Self:
        """Wrap every node of the graph; the first one added is the outermost, outside the nodes' own."""
        self._middleware.append(middleware)
        return self

    def with_checkpointer(self, checkpointer: CheckpointStore) -> Self:
        """Keep runs in this store; a second call replaces the first."""
        self._checkpointer = checkpointer
        return self

    def with_state_migrations(self, *migrations: StateMigration) -> Self:
        """Add migrations, which bring a state that was kept under an older `schema_version` to today's on resume.

        They are for the states of the graph and of the graphs inside it.
        """
        self._migrations += migrations
        return self

    def compile(self, name: str | None = None) -> CompiledGraph[StateT]:
        """Check the graph and register it.

        Args:
            name: what workers know it by; by default `module:variable`, of the variable it is assigned to.

        Raises:
            CompileError: it cannot run; `category` names the rule.
            StateMigrationAmbiguous: two migrations lead from one version to the same other one.

        Warns:
            CompileWarning: it can run, and probably does not do what was meant.
        """
        blueprint = self._blueprint()
        found = check(blueprint)
        graph = CompiledGraph(
            state_class=self._state_class,
            nodes=MappingProxyType(blueprint.nodes),
            edges=MappingProxyType({edge.source: edge for edge in blueprint.edges}),
            entry=self._entry or "",
            module=_module_of(inspect.currentframe()),
            label=name,
            middleware=blueprint.middleware,
            checkpointer=self._checkpointer,
            warnings=found,
            migrations=StateMigrations(self._migrations),
        )
        for warning in found:
            warnings.warn(warning, stacklevel=2)
        registry.register(graph)
        return graph

    def _add(self, node: Node) -> Self:
        if node.name in self._nodes:
            raise ValueError(f"there is a node {node.name!r} already; give this one another name")
        self._nodes[node.name] = node
        return self

    def _blueprint(self) -> Blueprint:
        return Blueprint(
            state_class=self._state_class,
            nodes=dict(self._nodes),
            edges=tuple(self._edges),
            entry=self._entry,
            middleware=tuple(self._middleware),
            problems=tuple(self._problems),
        )


def _two_projections(node: str) -> CompileError:
    return CompileError(
        "conflicting_projection_forms",
        f"node {node!r} has a projection and inputs or outputs too; keep one form",
        node=node,
    )


def _by_name(tags: Mapping[str, ItemReader] | Iterable[str]) -> dict[str, ItemReader]:
    return dict(tags) if isinstance(tags, Mapping) else {name: name for name in tags}


def _module_of(frame: FrameType | None) -> str:
    caller = None if frame is None else frame.f_back
    name = None if caller is None else caller.f_globals.get("__name__")
    return name if isinstance(name, str) else "__main__"
