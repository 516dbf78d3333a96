"""Rows on their way to a store, written in batches beside whoever adds them."""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from orchestrator.errors import CallerError
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.metrics.metric import ROWS_DROPPED

Row = TypeVar("Row")

log = logging.getLogger(__name__)

MOST_WAITING = 100_000
BATCH_ROWS = 1000
LONGEST_PAUSE_SECONDS = 30.0
TOLD_AGAIN_AFTER = 10
"""So many times as many have to be dropped before the log says it again."""


class Outbox(Generic[Row]):
    """Writes rows by `write`, in order, within `every_seconds`; `what` names them in its log.

    As soon as `batch_rows` wait they are written. A batch has no more of them, and one that cannot be written is tried
    again; of one that the store refuses, only the rows at fault are given up. `health` says why rows wait. When more
    than `most_waiting` wait, the oldest are given up, and so is what comes after `close`. All of these are counted in
    `dropped`, and `loss` says so in a sentence. Nothing is ever raised to whoever adds.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Row]], Awaitable[None]],
        *,
        what: str,
        every_seconds: float,
        most_waiting: int = MOST_WAITING,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._write = write
        self._what = what
        self._every_seconds = every_seconds
        self._most_waiting = most_waiting
        self._batch_rows = batch_rows
        self._pause: asyncio.Future[None] | None = None
        self._waiting: deque[Row] = deque()
        self._taking = threading.Lock()
        self._flushes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = WeakKeyDictionary()
        self._writing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._tell_at = 1
        self._reason: str | None = None
        self.dropped = 0
        self.loss: str | None = None
        self._meter: Meter = UNMETERED

    @property
    def health(self) -> str | None:
        """Why rows wait; None while they are written."""
        return None if self._reason is None else f"{self._what} wait: {self._reason}"

    def count_by(self, meter: Meter) -> None:
        """Count what is dropped by this meter too."""
        self._meter = meter

    def add(self, rows: Iterable[Row]) -> None:
        """Have rows written soon."""
        if self._is_closed:
            self._give_up(len(list(rows)), "they came after close(): await the graph's drain() before it", None)
            return
        self._waiting.extend(rows)
        self._drop(len(self._waiting) - self._most_waiting, "too many wait")
        if self._waiting and (self._writing is None or self._writing.done()):
            # Of nobody who adds: the first to do so is an instance or a run, and rows of others come after.
            self._writing = asyncio.create_task(self._write_soon(), context=contextvars.Context())
        if self._reason is None and len(self._waiting) >= self._batch_rows:
            self._end_pause()

    async def keep_up(self) -> None:
        """Wait for a store that is slower than rows come before any are given up; for one that is away nobody does."""
        if self._reason is None and 2 * len(self._waiting) > self._most_waiting:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits, or leave it for later where that does not succeed."""
        loop = asyncio.get_running_loop()
        flush = self._flushes.get(loop)
        if flush is None or flush.done():
            flush = self._flushes[loop] = loop.create_task(self._write_all())
            flush.add_done_callback(lambda done: self._flushes.pop(done.get_loop(), None))
        # A store may keep what it is given whether or not somebody still waits for it.
        await asyncio.shield(flush)

    async def close(self) -> None:
        """Write what waits for the last time; what comes from now on is given up."""
        self._is_closed = True
        if self._writing is not None and self._writing.get_loop() is asyncio.get_running_loop():
            self._writing.cancel()
        await self.flush()
        self._drop(len(self._waiting), "they could not be written by the end")

    async def _write_soon(self) -> None:
        pause_seconds, is_empty = self._every_seconds, False
        while not is_empty:
            if self._reason is not None or len(self._waiting) < self._batch_rows:
                self._pause = asyncio.get_running_loop().create_future()
                await asyncio.wait({self._pause}, timeout=pause_seconds)
            await self.flush()
            is_empty = not self._waiting
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS) if self._reason else self._every_seconds

    def _end_pause(self) -> None:
        if self._pause is not None and not self._pause.done():
            # Whoever adds may do so in another loop, and after the end of the one that pauses.
            with suppress(RuntimeError):
                self._pause.get_loop().call_soon_threadsafe(_resolve, self._pause)

    async def _write_all(self) -> None:
        most_rows = self._batch_rows
        while batch := self._take(most_rows):
            try:
                await self._write(batch)
            except CallerError as refusal:
                most_rows = self._refused(batch, str(refusal))
            except Exception as error:  # noqa: BLE001 - observers must not disturb the run
                self._put_back(batch)
                self._note(str(error) or type(error).__name__)
                return
            except asyncio.CancelledError:
                self._put_back(batch)
                raise
            else:
                self._note(None)
                most_rows = min(2 * most_rows, self._batch_rows)

    def _refused(self, batch: Sequence[Row], error: str) -> int:
        """Have a batch come again by halves, down to the row at fault, which is given up; how many come next."""
        if len(batch) == 1:
            self._give_up(1, "the store refuses them", error)
            return 1
        self._put_back(batch)
        return len(batch) // 2

    def _take(self, most: int) -> list[Row]:
        # Loops in several threads may write at once.
        with self._taking:
            return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _put_back(self, batch: Sequence[Row]) -> None:
        self._waiting.extendleft(reversed(batch))

    def _note(self, reason: str | None) -> None:
        if reason is not None and self._reason is None:
            log.warning("%s cannot be written, they wait", self._what, extra={"error": reason})
        if reason is None and self._reason is not None:
            log.warning("%s are written again", self._what)
        self._reason = reason

    def _drop(self, count: int, why: str) -> None:
        if count > 0:
            self._give_up(len(self._take(count)), why, self._reason)

    def _give_up(self, count: int, why: str, error: str | None) -> None:
        self.dropped += count
        self.loss = f"{self.dropped} {self._what} were lost: {why}{f' ({error})' if error else ''}"
        self._meter.add(ROWS_DROPPED, (self._what,), count)
        if self.dropped >= self._tell_at:
            self._tell_at = TOLD_AGAIN_AFTER * self.dropped
            log.error("%s dropped, %s", self._what, why, extra={"count": self.dropped, "error": error})


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
