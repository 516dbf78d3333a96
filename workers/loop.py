"""The event loop of a worker process, on a thread of its own."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

CALLS_SHOWN = 4

T = TypeVar("T")


class LoopThread:
    """A loop that runs until `close`; it is watched by whoever calls `poke` now and then."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._asked_at: float | None = None
        self._is_over = False
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def poke(self) -> float:
        """Ask the loop to turn once; for how many seconds it has not done so since it was first asked."""
        if self._asked_at is not None:
            return time.monotonic() - self._asked_at
        self._asked_at = time.monotonic()
        self._loop.call_soon_threadsafe(self._turned)
        return 0.0

    def where(self) -> str:
        """The innermost lines that the loop's thread is at."""
        frames = sys._current_frames()  # noqa: SLF001 - the public name of it takes no thread
        frame = frames.get(self._thread.ident or 0)
        if frame is None:
            return "nowhere"
        calls = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=CALLS_SHOWN)
        return " < ".join(f"{call.name} ({call.filename}:{call.lineno})" for call in calls)

    def close(self) -> None:
        """Stop the loop; what still runs on it is left behind."""
        self._is_over = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # asyncio lets these two end the loop, and whoever waits for the others on it would wait for ever.
                logger.warning("what ran on the loop tried to end the process; the loop goes on")

    def _turned(self) -> None:
        self._asked_at = None
