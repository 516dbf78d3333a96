"""Cancellation: telling one from without from the user's own, and bringing tasks to their end."""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.1


def is_being_cancelled() -> bool:
    """Whether somebody asked the running task to stop; a CancelledError without that is the user's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ended(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks of ours until they have ended, whatever they come to.

    Once is not enough: a client library that bounds its waits with `asyncio.wait_for` can lose a cancellation that
    comes together with its answer (https://github.com/python/cpython/issues/86296).
    """
    given = [task for task in tasks if task is not None]
    while going := [task for task in given if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=AGAIN_SECONDS)
    await asyncio.gather(*given, return_exceptions=True)
