"""What a graph must be to compile."""

from collections.abc import Iterable

from orchestrator.errors import CompileError
from orchestrator.graph.blueprint import Blueprint
from orchestrator.graph.branches_check import check_branches
from orchestrator.graph.edge import END, ConditionalEdge, Edge, StaticEdge
from orchestrator.graph.fan_out_check import check_fan_out
from orchestrator.graph.node import FanOutNode, Node, ParallelBranchesNode, SubgraphNode
from orchestrator.graph.round_trip import doubts
from orchestrator.graph.warning import CompileWarning
from orchestrator.state import State, reducers_of


def check(blueprint: Blueprint) -> tuple[CompileWarning, ...]:
    """See that a graph can run; what is doubtful is returned.

    Raises:
        CompileError: it cannot; the category names the first rule that it breaks.
    """
    if blueprint.problems:
        raise blueprint.problems[0]
    _check_entry(blueprint)
    reducers_of(blueprint.state_class)
    _check_edges(blueprint)
    _check_reach(blueprint)
    for node in blueprint.nodes.values():
        _check_node(node, blueprint.state_class)
    return tuple(doubt for node in blueprint.nodes.values() for doubt in doubts(node, blueprint.state_class))


def _check_entry(blueprint: Blueprint) -> None:
    if blueprint.entry not in blueprint.nodes:
        told = "no entry is declared" if blueprint.entry is None else f"the entry {blueprint.entry!r} is no node"
        raise CompileError("no_declared_entry", f"{told}; call set_entry with one of {_listed(blueprint.nodes)}")


def _check_edges(blueprint: Blueprint) -> None:
    sources: set[str] = set()
    for edge in blueprint.edges:
        for end in _ends(edge):
            if end not in blueprint.nodes:
                raise CompileError(
                    "dangling_edge",
                    f"an edge of {edge.source!r} names {end!r}, which is no node; "
                    f"add it, or name one of {_listed(blueprint.nodes)}",
                    node=edge.source,
                )
        if edge.source in sources:
            raise CompileError(
                "multiple_outgoing_edges",
                f"node {edge.source!r} has more than one edge out; use one conditional edge",
                node=edge.source,
            )
        sources.add(edge.source)


def _ends(edge: Edge) -> tuple[str, ...]:
    if isinstance(edge, StaticEdge) and edge.target is not END:
        return edge.source, str(edge.target)
    return (edge.source,)


def _check_reach(blueprint: Blueprint) -> None:
    edges = {edge.source: edge for edge in blueprint.edges}
    name, reached = blueprint.entry, set[str]()
    while isinstance(name, str) and name not in reached:
        reached.add(name)
        edge = edges.get(name)
        if isinstance(edge, ConditionalEdge):
            return  # it may lead to any node
        target = None if edge is None else edge.target
        name = target if isinstance(target, str) else None
    for node in blueprint.nodes:
        if node not in reached:
            raise CompileError(
                "unreachable_node",
                f"no edge leads from the entry {blueprint.entry!r} to node {node!r}; add one, or drop the node",
                node=node,
            )


def _check_node(node: Node, outer_class: type[State]) -> None:
    if isinstance(node, SubgraphNode):
        node.projection.validate(outer_class, node.graph.state_class, node=node.name)
    if isinstance(node, FanOutNode):
        check_fan_out(node, outer_class)
    if isinstance(node, ParallelBranchesNode):
        check_branches(node, outer_class)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "the nodes, of which there are none yet"
