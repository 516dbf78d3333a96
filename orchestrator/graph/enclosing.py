"""The graphs around a place of a graph."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.graph.node import FanOutNode, Node, ParallelBranchesNode, SubgraphNode
from orchestrator.identity import Level

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph

T = TypeVar("T")


def graphs_along(root: "Graph[Any]", path: Sequence[str]) -> list["Graph[Any]"]:
    """The root and the graphs that run inside the nodes of a namespace, outermost first: one more than its nodes.

    A branch that is a function works on the state of the graph around it.

    Raises:
        LookupError: the graph has no such place.
    """
    graphs, names = [root], iter(path)
    for name in names:
        node = graphs[-1].nodes[name]
        match node:
            case SubgraphNode():
                graphs.append(node.graph)
            case FanOutNode():
                graphs.append(node.subgraph)
            case ParallelBranchesNode():
                graphs.append(node.branches[_next(names)].subgraph or graphs[-1])
            case _:
                raise LookupError(f"nothing runs inside node {name!r}")
    return graphs


def levels_along(root: "Graph[Any]", path: Sequence[str], indexes: Sequence[int]) -> tuple[Level, ...]:
    """The nodes of a namespace as observers know them; `indexes` are the instances of its fan-outs, outermost first.

    Raises:
        LookupError: the graph has no such place.
    """
    levels: list[Level] = []
    graph, names, instances = root, iter(path), iter(indexes)
    for name in names:
        node = graph.nodes[name]
        branch = _next(names) if isinstance(node, ParallelBranchesNode) else None
        index = _next(instances) if isinstance(node, FanOutNode) else None
        levels.append(Level(name, index=index, branch=branch))
        graph = graphs_along(graph, (name,) if branch is None else (name, branch))[-1]
    return tuple(levels)


def _next(ones: Iterator[T]) -> T:
    for one in ones:
        return one
    raise LookupError("the place ends too early")


def inner_graphs(root: "Graph[Any]") -> Iterator["Graph[Any]"]:
    """The graph and every graph inside it, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        graph = waiting.pop()
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        yield graph
        for node in graph.nodes.values():
            waiting.extend(_inside(node))


def _inside(node: Node) -> list["Graph[Any]"]:
    match node:
        case SubgraphNode():
            return [node.graph]
        case FanOutNode():
            return [node.subgraph]
        case ParallelBranchesNode():
            return [branch.subgraph for branch in node.branches.values() if branch.subgraph is not None]
        case _:
            return []
