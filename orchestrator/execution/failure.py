"""What a failed step of a run is told as."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from orchestrator.errors import CallerError, Fenced, GraphError, NodeException, OperatorError, RunCancelled
from orchestrator.execution.cancelling import is_being_cancelled


async def as_graph_error(node: str, state: Any, running: Awaitable[Any], *, is_users: bool) -> Any:
    """Await a node, and wrap what it raises as `graph_error` says."""
    try:
        return await running
    except BaseException as error:
        told = graph_error(node, state, error, is_users=is_users)
        if told is error:
            raise
        raise told from error


def graph_error(node: str, state: Any, error: BaseException, *, is_users: bool) -> BaseException:
    """What a node raised, wrapped; what says already which step failed, or stops the whole run, is told as it is.

    `is_users` where the node is code of the user's: then also a wrong call of ours is its failure.
    """
    match error:
        case GraphError() | OperatorError() | Fenced() | RunCancelled() | GeneratorExit():
            return error
        case CallerError() if not is_users:
            return error
        case asyncio.CancelledError() if is_being_cancelled():
            return error
        case asyncio.CancelledError():
            told = NodeException(node, "it was cancelled by its own doing", recoverable_state=state)
        case _:
            told = NodeException(node, error, recoverable_state=state)
    told.__cause__ = error
    return told
