"""Whose turn it is to write, of tasks in any number of event loops."""

import asyncio
from concurrent.futures import Future
from typing import Generic, TypeVar

Row = TypeVar("Row")

LOOK_AGAIN_SECONDS = 0.2


class Turn(Generic[Row]):
    """The turn of one task in the loop that it is made in; `batch` is what that is writing.

    Tasks of all loops may wait for its end. They block none, and do not end it by giving up.
    """

    def __init__(self) -> None:
        self.batch: list[Row] = []
        self.task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: Future[bool] = Future()
        # Whoever is cancelled while waiting would cancel it for the others too.
        self._ended.set_running_or_notify_cancel()

    @property
    def is_lost(self) -> bool:
        """Whether its loop stands still or is closed, so that it may never end."""
        return not self._ended.done() and not self._loop.is_running()

    def end(self, *, is_complete: bool) -> None:
        """Say that it is over, and whether it came to its end or was cancelled."""
        self._ended.set_result(is_complete)

    async def wait(self) -> bool:
        """Wait until it is over or lost; whether it came to its end."""
        ended = asyncio.wrap_future(self._ended)
        # A loop that stops tells nobody.
        while not ended.done() and not self.is_lost:
            await asyncio.wait({ended}, timeout=LOOK_AGAIN_SECONDS)
        return ended.done() and ended.result()
