"""How parallel branches are stepped: all at once, and merged in the order in which they are declared."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.errors import CallerError, EdgeException, GraphError, ParallelBranchesBranchFailed
from orchestrator.execution.failure import as_graph_error, graph_error
from orchestrator.execution.frame import Frame
from orchestrator.execution.function import run_function
from orchestrator.graph.projection import first_state
from orchestrator.merge import Contributions, merged
from orchestrator.middleware.cause_chain import error_record
from orchestrator.middleware.chain import compose
from orchestrator.observers.site import Site, at, boundary_site, node_site
from orchestrator.scope import branching, trying
from orchestrator.tracing.current import current_span, within
from orchestrator.tracing.span import CANCELLED, Span, as_step_failure

if TYPE_CHECKING:
    from orchestrator.graph.graph import Graph
    from orchestrator.graph.node import BranchSpec, ParallelBranchesNode

Walk = Callable[["Graph[Any]", Any, Frame], Awaitable[Any]]
"""What steps a graph to its end: `walk`, which comes to this room itself."""


async def run_branches(node: "ParallelBranchesNode", state: Any, frame: Frame, walk: Walk) -> Contributions:
    """Run the branches whose condition holds, and give what each contributes.

    Raises:
        ParallelBranchesBranchFailed: under `fail_fast`, the first branch that failed; the others are cancelled.
    """
    chosen = [name for name, branch in node.branches.items() if _is_chosen(node.name, branch, state)]
    current_span().note(
        {"parallel_branches.branch_count": len(chosen), "parallel_branches.error_policy": node.error_policy}
    )
    tasks = {name: asyncio.create_task(_run(name, node, state, frame=frame, walk=walk)) for name in chosen}
    try:
        waited = asyncio.FIRST_EXCEPTION if node.error_policy == "fail_fast" else asyncio.ALL_COMPLETED
        if tasks:
            await asyncio.wait(tasks.values(), return_when=waited)
        return _contributions(node, state, {name: task for name, task in tasks.items() if task.done()})
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _run(name: str, node: "ParallelBranchesNode", state: Any, *, frame: Frame, walk: Walk) -> Mapping[str, Any]:
    inside = frame.inside(node.name, state, branch=name)
    running = run_branch(name, node.branches[name], state, frame=inside, walk=walk)
    with branching():
        update: Mapping[str, Any] = await as_graph_error(name, state, running, is_users=False)
    return update


async def run_branch(name: str, branch: "BranchSpec", state: Any, *, frame: Frame, walk: Walk) -> Mapping[str, Any]:
    """Run one branch behind its middleware; its partial update of the outer state."""
    if branch.subgraph is None:
        return await _called(name, branch, state, frame=frame)
    inner_class = branch.subgraph.state_class
    inner = first_state(inner_class, {field: getattr(state, source) for field, source in branch.inputs.items()})
    site = boundary_site(frame)
    with at(site), _traced(frame.tracing.branch(site, current_span())):
        update = await compose(branch.middleware, partial(_walked, branch, site=site, walk=walk))(inner)
    # A middleware may give less than the subgraph: what it leaves out keeps its value outside.
    return {target: update[field] for target, field in branch.outputs.items() if field in update}


async def _walked(branch: "BranchSpec", state: Any, *, site: Site, walk: Walk) -> Mapping[str, Any]:
    assert branch.subgraph is not None
    site.started(state)
    with trying():
        end = await walk(branch.subgraph, state, site.frame)
    return {field: getattr(end, field) for field in branch.outputs.values()}


async def _called(name: str, branch: "BranchSpec", state: Any, *, frame: Frame) -> Mapping[str, Any]:
    site = node_site(frame, name, subject=branch)

    async def call(state: Any) -> Any:
        assert branch.call is not None
        site.started(state)
        try:
            with within(site.span), trying():
                return await run_function(branch.call, state)
        except BaseException as error:
            site.failed(graph_error(name, state, error, is_users=True))
            raise

    with at(site):
        running = compose(branch.middleware, call)(state)
        update: Mapping[str, Any] = await as_graph_error(name, state, running, is_users=True)
        after = merged(state, update, node=name)
    site.completed(after)
    return update


@contextmanager
def _traced(span: Span) -> Iterator[None]:
    """Run a whole branch within its span; its failure is that of a step in it."""
    try:
        with within(span):
            yield
    except BaseException as error:
        is_stopped = isinstance(error, asyncio.CancelledError)
        span.end(CANCELLED if is_stopped else as_step_failure(error_record(error)))
        raise
    span.end()


def _is_chosen(node: str, branch: "BranchSpec", state: Any) -> bool:
    if branch.when is None:
        return True
    try:
        return bool(branch.when(state))
    except Exception as error:
        raise EdgeException(node, error, recoverable_state=state) from error


def _contributions(
    node: "ParallelBranchesNode", state: Any, ended: Mapping[str, "asyncio.Task[Mapping[str, Any]]"]
) -> Contributions:
    failures = {name: error for name, task in ended.items() if (error := task.exception()) is not None}
    for name, error in failures.items():
        if not isinstance(error, GraphError | CallerError):
            raise error
        if node.error_policy == "fail_fast":
            raise ParallelBranchesBranchFailed(node.name, name, error, recoverable_state=state) from error
    parts = [task.result() for name, task in ended.items() if name not in failures]
    if node.errors_field is not None:
        parts.append({node.errors_field: [error_entry(name, error) for name, error in failures.items()]})
    return Contributions(parts)


def error_entry(branch: str, error: BaseException) -> dict[str, str]:
    """A failed branch as users find it in `errors_field`; every value is text."""
    record = error_record(error)
    return {
        "branch_name": branch,
        "category": record.shown_category,
        "message": record.message,
        "type": record.type,
        "traceback": record.traceback,
    }
