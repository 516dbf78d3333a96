"""Measuring how long a node, an instance or a branch takes."""

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.middleware.cause_chain import classify_cause_chain, derived_link
from orchestrator.middleware.chain import NextCall, Partial


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingRecord:
    """How long something took, in milliseconds, and how it ended; the category is that of the exception."""

    node_name: str
    duration_ms: float
    outcome: Literal["success", "exception"]
    exception_category: str | None = None


OnComplete = Callable[[TimingRecord], Awaitable[None] | None]


class TimingMiddleware:
    """Gives a record of each call of the rest of the chain to `on_complete`, in the process that makes the call.

    Outside a retry it measures all attempts together, inside it each one. What was raised is raised again.

    Args:
        node_name: the name in the records.
        on_complete: told of each; may be async.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, node_name: str, on_complete: OnComplete, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_name = node_name
        self._on_complete = on_complete
        self._clock = clock

    async def __call__(self, state: Any, call_next: NextCall) -> Partial:
        began = self._clock()
        try:
            update = await call_next(state)
        except Exception as error:
            await self._tell(began, error)
            raise
        await self._tell(began, None)
        return update

    async def _tell(self, began: float, error: Exception | None) -> None:
        record = TimingRecord(
            node_name=self._node_name,
            duration_ms=(self._clock() - began) * 1000,
            outcome="success" if error is None else "exception",
            exception_category=None if error is None else derived_link(classify_cause_chain(error)).category,
        )
        told = self._on_complete(record)
        if inspect.isawaitable(told):
            await told
