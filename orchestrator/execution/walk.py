"""How a graph is stepped, from its entry or from where it was, to its end."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.errors import CallerError, Fenced, GraphError, NodeException, OperatorError, RunCancelled
from orchestrator.execution.cancelling import is_being_cancelled
from orchestrator.execution.fan_out import run_fan_out
from orchestrator.execution.frame import Frame
from orchestrator.execution.function import run_function
from orchestrator.graph.edge import END, Target
from orchestrator.graph.node import FanOutNode, FunctionNode, Node, SubgraphNode
from orchestrator.merge import apply
from orchestrator.middleware.chain import compose
from orchestrator.observers.site import Site, at, node_site

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph


async def walk(graph: "Graph[Any]", state: Any, frame: Frame) -> Any:
    """Step a graph to its end and give its last state.

    Raises:
        GraphError: a step failed.
    """
    point = frame.journal.resume_point(graph, frame)
    name = graph.entry if point is None else graph.next_node(point.node, point.state)
    state = state if point is None else point.state
    while name is not END:
        state, name = await step(graph, graph.nodes[name], state, frame)
    return state


async def step(graph: "Graph[Any]", node: Node, state: Any, frame: Frame) -> tuple[Any, Target]:
    """Run one node behind its middleware, merge what it returned, and keep the state after it.

    Returns:
        The state after it, and where its edge leads.
    """
    site = node_site(frame, node.name, is_silent=isinstance(node, SubgraphNode))
    chain = compose((*graph.middleware, *node.middleware), partial(attempt, node, site=site))
    with at(site), site.until_over():
        update = await _as_node_exception(node, state, chain(state))
        after = apply(state, update, node=node.name)
        await frame.journal.save(graph, site, node.name, after)
        target = graph.next_node(node.name, after)
    site.completed(after)
    return after, target


async def attempt(node: Node, state: Any, *, site: Site) -> Any:
    """Try a node once: what is innermost in its middleware."""
    site.started(state)
    try:
        return await execute(node, state, frame=site.frame)
    except BaseException as error:
        site.failed(_told(node, state, error))
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


async def run_subgraph(node: SubgraphNode, state: Any, frame: Frame) -> Any:
    """Step a compiled graph as one node of another."""
    inner = node.projection.project_in(state, node.graph.state_class)
    end = await walk(node.graph, inner, frame.inside(node.name, state))
    return node.projection.project_out(end, type(state))


async def _as_node_exception(node: Node, state: Any, running: Any) -> Any:
    try:
        return await running
    except BaseException as error:
        told = _told(node, state, error)
        if told is error:
            raise
        raise told from error


def _told(node: Node, state: Any, error: BaseException) -> BaseException:
    """What a node raised, wrapped; what says already which step failed, or stops the whole run, is told as it is."""
    match error:
        case GraphError() | OperatorError() | Fenced() | RunCancelled() | GeneratorExit():
            return error
        case CallerError() if not isinstance(node, FunctionNode):
            return error
        case asyncio.CancelledError() if is_being_cancelled():
            return error
        case asyncio.CancelledError():
            told = NodeException(node.name, "it was cancelled by its own doing", recoverable_state=state)
        case _:
            told = NodeException(node.name, error, recoverable_state=state)
    told.__cause__ = error
    return told
