"""An event loop whose time is virtual: where nothing is ready, it jumps to what comes next."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN_SECONDS = 1000.0
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


MOST_TURNS = 300_000
"""More than any simulation needs that comes to an end."""


class NothingLeft(BaseException):
    """Nothing is ready and nothing is scheduled, or it goes round for ever: what is waited for can never come."""


class _Jump(selectors.SelectSelector):
    """Waits for nothing; lets the time pass instead."""

    now = BEGIN_SECONDS
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if timeout is None or self.turns > MOST_TURNS:
            raise NothingLeft
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs one simulation, on one thread; two runs of the same program see the same times."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        return self._jump.now

    def wind_up(self) -> None:
        """Give those who are left as many turns as a simulation has."""
        self._jump.turns = 0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.time())

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector that would have to be woken."""


def run_virtually(main: Coroutine[Any, Any, Any], *, afterwards: Callable[[], Coroutine[Any, Any, None]]) -> Any:
    """Run a coroutine to its end on a loop of its own; `afterwards` sends away whoever is left, however it ended."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.wind_up()
        loop.run_until_complete(afterwards())
        loop.close()
