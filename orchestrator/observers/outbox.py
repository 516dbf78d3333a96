"""Rows on their way to a store, written in batches beside whoever adds them."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from orchestrator.errors import CallerError

Row = TypeVar("Row")

log = logging.getLogger(__name__)

MOST_WAITING = 100_000
BATCH_ROWS = 1000
LONGEST_PAUSE_SECONDS = 30.0


class Outbox(Generic[Row]):
    """Writes rows by `write`, in order, within `every_seconds`; `what` names them in its log.

    As soon as `batch_rows` wait they are written. A batch has no more of them, and one that cannot be written is tried
    again, unless the store refuses what it holds; `health` says why. When more than `most_waiting` rows wait, the
    oldest are dropped. All that are given up are counted in `dropped`. Nothing is ever raised to whoever adds.
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
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._writing: asyncio.Task[None] | None = None
        self.dropped = 0
        self.health: str | None = None

    def add(self, rows: Iterable[Row]) -> None:
        """Have rows written soon."""
        self._waiting.extend(rows)
        self._drop(len(self._waiting) - self._most_waiting, "too many wait")
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write_soon())
        if self.health is None and len(self._waiting) >= self._batch_rows:
            self._end_pause()

    async def flush(self) -> None:
        """Write what waits, or leave it for later where that does not succeed."""
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._batch_rows, len(self._waiting)))]
                if not await self._is_settled(batch):
                    return

    async def close(self) -> None:
        """Write what waits for the last time."""
        if self._writing is not None and self._writing.get_loop() is asyncio.get_running_loop():
            self._writing.cancel()
        await self.flush()
        self._drop(len(self._waiting), "they could not be written by the end")

    async def _write_soon(self) -> None:
        pause_seconds, is_empty = self._every_seconds, False
        while not is_empty:
            if self.health is not None or len(self._waiting) < self._batch_rows:
                self._pause = asyncio.get_running_loop().create_future()
                await asyncio.wait({self._pause}, timeout=pause_seconds)
            await self.flush()
            is_empty = not self._waiting
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS) if self.health else self._every_seconds

    def _end_pause(self) -> None:
        if self._pause is not None and not self._pause.done():
            # Whoever adds may do so in another loop.
            self._pause.get_loop().call_soon_threadsafe(_resolve, self._pause)

    async def _is_settled(self, batch: Sequence[Row]) -> bool:
        is_settled = False
        try:
            await self._write(batch)
            is_settled = True
            self._note(None)
        except CallerError as error:
            # It will not be taken later either.
            is_settled = True
            self._give_up(len(batch), "the store refuses them", str(error))
        except Exception as error:  # noqa: BLE001 - observers must not disturb the run
            self._note(str(error) or type(error).__name__)
        finally:
            if not is_settled:
                self._waiting.extendleft(reversed(batch))
        return is_settled

    def _note(self, health: str | None) -> None:
        if health is not None and self.health is None:
            log.warning("%s cannot be written, they wait", self._what, extra={"error": health})
        if health is None and self.health is not None:
            log.warning("%s are written again", self._what)
        self.health = health

    def _drop(self, count: int, why: str) -> None:
        for _ in range(count):
            self._waiting.popleft()
        if count > 0:
            self._give_up(count, why, self.health)

    def _give_up(self, count: int, why: str, error: str | None) -> None:
        if not self.dropped:
            log.error("%s dropped, %s", self._what, why, extra={"count": count, "error": error})
        self.dropped += count


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
