"""The event loop on which the calls of plain functions are made."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class PlainLoop:
    """Runs coroutines for whoever has no event loop, each in the caller's context.

    Its thread begins with the first of them, serves all of a process, and ends with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def has_begun(self) -> bool:
        return self._loop is not None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it, and wait; whoever is interrupted in that has it cancelled."""
        running = asyncio.run_coroutine_threadsafe(work, self._begun())
        try:
            return running.result()
        finally:
            running.cancel()

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="rollforward-model-calls", daemon=True).start()
            return self._loop


_of_processes: dict[int, PlainLoop] = {}


def plain_loop() -> PlainLoop:
    """That of this process: a child that was forked has the threads of its parent no more."""
    return _of_processes.setdefault(os.getpid(), PlainLoop())
