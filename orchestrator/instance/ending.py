"""How an instance ends: within its time limit, and whatever happens as a value."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from orchestrator.context import Cancellation
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import InstanceTimeLimitExceeded
from orchestrator.execution.cancelling import is_being_cancelled
from orchestrator.middleware.cause_chain import error_record
from orchestrator.report import Outcome


@dataclass(frozen=True, slots=True)
class Ended:
    """How an instance ended; `contribution` is JSON text."""

    outcome: Outcome
    contribution: str | None = None
    error: ErrorRecord | None = None


async def until_ended(running: Awaitable[str], limit_seconds: float | None, cancellation: Cancellation) -> Ended:
    """Await one instance, which gives its contribution, within its time limit."""
    scope = asyncio.timeout(limit_seconds)
    try:
        async with scope:
            return Ended(Outcome.SUCCEEDED, await running)
    except asyncio.CancelledError as error:
        return _cancelled(error, cancellation)
    except TimeoutError as error:
        is_over = limit_seconds is not None and scope.expired()
        return _failed(InstanceTimeLimitExceeded(limit_seconds) if is_over and limit_seconds is not None else error)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the user raises ends its instance, and no worker
        return _failed(error)


def _cancelled(error: asyncio.CancelledError, cancellation: Cancellation) -> Ended:
    """What a cancellation comes to: a wish that was asked for, the end of this process, or the user's own doing."""
    task = asyncio.current_task()
    if task is None or not is_being_cancelled():
        return _failed(error)
    if not cancellation.is_requested:
        raise error
    task.uncancel()
    return Ended(Outcome.CANCELLED)


def _failed(error: BaseException) -> Ended:
    return Ended(Outcome.FAILED, error=error_record(error))
