"""How a user's function is called, whether it is async or plain."""

import asyncio
import contextvars
import inspect
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

PLAIN_THREADS = 128
"""How many plain functions may run at once in a process; threads are made as they are needed."""


async def run_function(function: Callable[[Any], Any], state: Any) -> Any:
    """Call a node's function: an async one on this loop, a plain one in a thread with this context."""
    if _is_async(function):
        return await function(state)
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(_threads(os.getpid()), partial(context.run, function, state))
    return await result if inspect.isawaitable(result) else result


@cache
def _threads(pid: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork, so that a child needs its own.
    return ThreadPoolExecutor(PLAIN_THREADS, thread_name_prefix=f"rollforward-node-{pid}")


def _is_async(function: Callable[[Any], Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
