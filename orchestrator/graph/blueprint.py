"""A graph as its builder has collected it, before it is checked."""

from dataclasses import dataclass

from orchestrator.errors import CompileError
from orchestrator.graph.edge import Edge
from orchestrator.graph.node import Node
from orchestrator.middleware.chain import Middleware
from orchestrator.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """All parts of a graph; `problems` are what was wrong with a call and is told when the graph is compiled."""

    state_class: type[State]
    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    entry: str | None
    middleware: tuple[Middleware, ...] = ()
    problems: tuple[CompileError, ...] = ()
