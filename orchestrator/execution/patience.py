"""How a service that is away is waited for, and how the owner of a run says so meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.errors import OperatorError

Result = TypeVar("Result")

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


async def pause(failures: int) -> None:
    """Wait before the next try: the longer, the more tries in a row had failed before this one."""
    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])


class Patience:
    """Repeats a call while its service is away; `health` says which, or is None."""

    def __init__(self) -> None:
        self.health: str | None = None

    async def until_done(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call that may be repeated, until the service answers."""
        failures = 0
        while True:
            try:
                result = await call()
            except OperatorError as error:
                self.health = str(error)
                await pause(failures)
                failures += 1
            else:
                self.health = None
                return result
