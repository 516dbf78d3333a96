"""Telling a cancellation from without from one that user code has brought about itself."""

import asyncio


def is_being_cancelled() -> bool:
    """Whether somebody asked the running task to stop; a CancelledError without that is the user's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
