"""How a graph is stepped, from its entry or from where it was, to its end."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.errors import CallerError, Fenced, GraphError, NodeException, OperatorError, RunCancelled
from orchestrator.execution.cancelling import is_being_cancelled
from orchestrator.execution.fan_out import run_fan_out
from orchestrator.execution.frame import Frame
from orchestrator.execution.function import run_function
from orchestrator.graph.edge import END
from orchestrator.graph.node import FanOutNode, FunctionNode, Node, SubgraphNode
from orchestrator.merge import apply
from orchestrator.middleware.chain import compose

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
        state = await step(graph, graph.nodes[name], state, frame)
        name = graph.next_node(name, state)
    return state


async def step(graph: "Graph[Any]", node: Node, state: Any, frame: Frame) -> Any:
    """Run one node behind its middleware, merge what it returned, and keep the state after it."""
    chain = compose((*graph.middleware, *node.middleware), partial(execute, node, frame=frame))
    update = await _as_node_exception(node, state, chain(state))
    after = apply(state, update, node=node.name)
    await frame.journal.save(graph, frame, node.name, after)
    return after


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
    """Wrap what a node raised; what says already which step failed, or stops the whole run, passes."""
    try:
        return await running
    except (GraphError, OperatorError, Fenced, RunCancelled):
        raise
    except CallerError as error:
        if not isinstance(node, FunctionNode):
            raise
        raise NodeException(node.name, error, recoverable_state=state) from error
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        raise NodeException(node.name, "it was cancelled by its own doing", recoverable_state=state) from error
    except BaseException as error:
        raise NodeException(node.name, error, recoverable_state=state) from error
