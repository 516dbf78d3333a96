"""How a graph is stepped, from its entry or from where it was, to its end."""

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.execution.branches import run_branches
from orchestrator.execution.failure import as_graph_error, graph_error
from orchestrator.execution.fan_out import run_fan_out
from orchestrator.execution.frame import Frame
from orchestrator.execution.function import run_function
from orchestrator.graph.edge import END, Target
from orchestrator.graph.node import FanOutNode, FunctionNode, Node, ParallelBranchesNode, SubgraphNode
from orchestrator.merge import merged
from orchestrator.middleware.chain import compose
from orchestrator.observers.site import Site, at, node_site
from orchestrator.scope import go_on_with, trying
from orchestrator.tracing.current import within

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph


async def walk(graph: "Graph[Any]", state: Any, frame: Frame) -> Any:
    """Step a graph to its end and give its last state.

    Raises:
        GraphError: a step failed.
    """
    point = frame.journal.resume_point(graph, frame)
    name = graph.entry if point is None else graph.next_node(point.node, point.state)
    if point is not None:
        state = point.state
        go_on_with(point.metadata)
    while name is not END:
        state, name = await step(graph, graph.nodes[name], state, frame)
    return state


async def step(graph: "Graph[Any]", node: Node, state: Any, frame: Frame) -> tuple[Any, Target]:
    """Run one node behind its middleware, merge what it returned, and keep the state after it.

    Returns:
        The state after it, and where its edge leads.
    """
    site = node_site(frame, node.name, subject=node, is_silent=isinstance(node, SubgraphNode))
    chain = compose((*graph.middleware, *node.middleware), partial(attempt, node, site=site))
    with at(site):
        update = await as_graph_error(node.name, state, chain(state), is_users=isinstance(node, FunctionNode))
        after = merged(state, update, node=node.name)
        await frame.journal.save(graph, site, node.name, after)
        target = graph.next_node(node.name, after)
    site.completed(after)
    return after, target


async def attempt(node: Node, state: Any, *, site: Site) -> Any:
    """Try a node once: what is innermost in its middleware."""
    site.started(state)
    try:
        with within(site.span), trying():
            return await execute(node, state, frame=site.frame)
    except BaseException as error:
        site.failed(graph_error(node.name, state, error, is_users=isinstance(node, FunctionNode)))
        raise


async def execute(node: Node, state: Any, *, frame: Frame) -> Any:
    """Run one node: the one place where the kinds of nodes part."""
    match node:
        case FunctionNode():
            return await run_function(node.function, state)
        case SubgraphNode():
            return await run_subgraph(node, state, frame)
        case FanOutNode():
            return await run_fan_out(node, state, frame)
        case ParallelBranchesNode():
            return await run_branches(node, state, frame, walk)


async def run_subgraph(node: SubgraphNode, state: Any, frame: Frame) -> Any:
    """Step a compiled graph as one node of another."""
    inner = node.projection.project_in(state, node.graph.state_class)
    end = await walk(node.graph, inner, frame.inside(node.name, state))
    return node.projection.project_out(end, type(state))
