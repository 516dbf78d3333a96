"""Trying a node, or a whole instance, again."""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from orchestrator.context import attempting
from orchestrator.errors import Fenced, LedgerLost, RunCancelled
from orchestrator.middleware.chain import NextCall, Partial

Classifier = Callable[[Exception, Any], bool]
"""Whether to try again, from the exception and the state that the attempt began with."""

Backoff = Callable[[int], float]
"""How many seconds to wait after the attempt of that index failed."""

OnRetry = Callable[[Exception, int], Awaitable[None] | None]
"""Told of the exception and the index of the failed attempt, before each wait."""

MAX_RETRY_AFTER = timedelta(seconds=60)

TRANSIENT_CATEGORIES = frozenset({"provider_rate_limit", "provider_unavailable", "provider_model_not_loaded"})

STOPS_THE_RUN = (RunCancelled, Fenced, LedgerLost)
"""What no attempt can mend, whatever a classifier says."""


def default_classifier(error: Exception, _state: Any) -> bool:
    """True where the error, or its immediate cause, says that it is passing."""
    return any(getattr(one, "category", None) in TRANSIENT_CATEGORIES for one in (error, error.__cause__))


def asked_wait(error: Exception) -> timedelta:
    """How long the error, or its immediate cause, asks to wait with its `retry_after`; no time where it does not."""
    asked = (getattr(one, "retry_after", None) for one in (error, error.__cause__))
    return next((wait for wait in asked if isinstance(wait, timedelta)), timedelta(0))


def exponential_jitter_backoff(base: float = 1.0, cap: float = 30.0) -> Backoff:
    """Wait anything between 0 and `base` seconds, then twice that, up to `cap` seconds.

    This is "full jitter", from https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    def wait(attempt_index: int) -> float:
        return random.uniform(0, min(cap, base * 2 ** min(attempt_index, 60)))

    return wait


def deterministic_backoff(seconds: float) -> Backoff:
    """Wait the same time after every attempt."""
    return lambda _attempt_index: seconds


class RetryOptions(TypedDict, total=False):
    """What `RetryConfig` takes."""

    max_attempts: int
    classifier: Classifier | None
    backoff: Backoff | None
    on_retry: OnRetry | None
    max_retry_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """How to try again.

    Args:
        max_attempts: how many tries there are in all, from 1.
        classifier: which failures are worth another; by default those of a passing category.
        backoff: the wait between two; by default exponential with full jitter.
        on_retry: told before each wait; may be async.
        max_retry_after: how much is waited at most because an error asks for it by a timedelta `retry_after`. The
            backoff comes on top, so that those who were refused together do not come back together.
    """

    max_attempts: int = 3
    classifier: Classifier | None = None
    backoff: Backoff | None = None
    on_retry: OnRetry | None = None
    max_retry_after: timedelta = MAX_RETRY_AFTER

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}; pass 1 or more")


class RetryMiddleware:
    """Calls the rest of the chain again, with the same state, when it failed.

    A cancellation is never retried. `RetryMiddleware(max_attempts=5)` is short for a config of it.
    """

    def __init__(self, config: RetryConfig | None = None, **options: Unpack[RetryOptions]) -> None:
        if config is not None and options:
            raise ValueError(f"pass a RetryConfig or {', '.join(options)}, not both")
        self.config = config or RetryConfig(**options)
        self._is_transient = self.config.classifier or default_classifier
        self._wait_after = self.config.backoff or exponential_jitter_backoff()

    async def __call__(self, state: Any, call_next: NextCall) -> Partial:
        last = self.config.max_attempts - 1
        for attempt_index in range(last):
            try:
                with attempting(attempt_index):
                    return await call_next(state)
            except STOPS_THE_RUN:
                raise
            except Exception as error:
                if not self._is_transient(error, state):
                    raise
                await self._pause(error, attempt_index)
        with attempting(last):
            return await call_next(state)

    async def _pause(self, error: Exception, attempt_index: int) -> None:
        told = self.config.on_retry(error, attempt_index) if self.config.on_retry else None
        if inspect.isawaitable(told):
            await told
        asked = min(asked_wait(error), self.config.max_retry_after)
        await asyncio.sleep(asked.total_seconds() + self._wait_after(attempt_index))
