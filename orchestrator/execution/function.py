"""How a user's function is called, whether it is async or plain."""

import inspect
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from orchestrator.execution.plain_calls import PlainCalls


async def run_function(function: Callable[[Any], Any], state: Any) -> Any:
    """Call a node's function: an async one on this loop, a plain one in a thread with this context."""
    if _is_async(function):
        return await function(state)
    result = await _plain_calls(os.getpid()).call(function, state)
    return await result if inspect.isawaitable(result) else result


def abandoned_functions() -> list[str]:
    """The plain functions of this process that still run although their node's await was cancelled."""
    return _plain_calls(os.getpid()).abandoned()


@cache
def _plain_calls(_pid: int) -> PlainCalls:
    # Threads do not survive a fork, so that a child needs its own.
    return PlainCalls()


def _is_async(function: Callable[[Any], Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
