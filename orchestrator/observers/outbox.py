"""Rows on their way to a store, written in batches beside whoever adds them."""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from orchestrator.errors import CallerError
from orchestrator.metrics.meter import UNMETERED, Meter
from orchestrator.metrics.metric import ROWS_DROPPED
from orchestrator.observers.turn import Turn

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

    Loops in any number of threads may use it at once. `write` lets a cancellation out only where it keeps no row of
    its batch, which then waits. What a loop was writing when it stopped for good is written again by another one.
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
        self._turn: Turn[Row] | None = None
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
        if self._waiting and not self._is_written_soon():
            # Of nobody who adds: the first to do so is an instance or a run, and rows of others come after.
            self._writing = asyncio.create_task(self._write_soon(), context=contextvars.Context())
        if self._reason is None and len(self._waiting) >= self._batch_rows:
            self._end_pause()

    async def keep_up(self) -> None:
        """Wait for a store that is slower than rows come before any are given up; for one that is away nobody does."""
        if self._reason is None and 2 * len(self._waiting) > self._most_waiting:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits, or leave it for later where that does not succeed.

        Of all event loops one writes at a time, and the others wait for it: rows stay in order.
        """
        while not await self._begun().wait():
            # Whoever had the turn is gone; the rest is still to be written.
            pass

    async def close(self) -> None:
        """Write what waits for the last time; what comes from now on is given up."""
        self._is_closed = True
        if self._writing is not None and self._writing.get_loop() is asyncio.get_running_loop():
            self._writing.cancel()
        await self.flush()
        self._drop(len(self._waiting), "they could not be written by the end")

    def _is_written_soon(self) -> bool:
        # One whose loop stands still or is closed is never done.
        writing = self._writing
        return writing is not None and not writing.done() and writing.get_loop().is_running()

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

    def _begun(self) -> Turn[Row]:
        """The turn of whoever writes; of a task of this loop, where nobody does."""
        with self._taking:
            lost = self._turn
            if lost is not None and not lost.is_lost:
                return lost
            turn = self._turn = Turn()
        if lost is not None:
            self._put_back(lost)
        turn.task = asyncio.create_task(self._write_all(turn), context=contextvars.Context())
        turn.task.add_done_callback(partial(self._end, turn))
        return turn

    def _end(self, turn: Turn[Row], task: asyncio.Task[None]) -> None:
        with self._taking:
            if self._turn is turn:
                self._turn = None
        turn.end(is_complete=not task.cancelled())

    async def _write_all(self, turn: Turn[Row]) -> None:
        most_rows = self._batch_rows
        while batch := self._next_batch(turn, most_rows):
            try:
                await self._write(batch)
            except CallerError as refusal:
                most_rows = self._refused(turn, str(refusal))
            except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
                self._put_back(turn)
                raise
            except BaseException as error:  # noqa: BLE001 - a driver may panic, and nothing disturbs the run
                self._put_back(turn)
                self._note(str(error) or type(error).__name__)
                return
            else:
                turn.batch = []
                self._note(None)
                most_rows = min(2 * most_rows, self._batch_rows)

    def _next_batch(self, turn: Turn[Row], most: int) -> list[Row]:
        with self._taking:
            # Another loop may have taken over from one that stood still.
            if self._turn is turn:
                turn.batch = self._popped(most)
                if not turn.batch:
                    # In one with finding none: what comes from now on is for whoever writes next.
                    self._turn = None
            return turn.batch if self._turn is turn else []

    def _refused(self, turn: Turn[Row], error: str) -> int:
        """Have a batch come again by halves, down to the row at fault, which is given up; how many come next."""
        if len(turn.batch) == 1:
            turn.batch = []
            self._give_up(1, "the store refuses them", error)
        most_rows = max(len(turn.batch) // 2, 1)
        self._put_back(turn)
        return most_rows

    def _put_back(self, turn: Turn[Row]) -> None:
        with self._taking:
            self._waiting.extendleft(reversed(turn.batch))
            turn.batch = []

    def _take(self, most: int) -> list[Row]:
        # Loops in several threads may give up rows at once.
        with self._taking:
            return self._popped(most)

    def _popped(self, most: int) -> list[Row]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

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
