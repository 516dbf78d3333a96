"""The observers that settings ask for, told of every run that a process drives."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from backends.opening import open_logs, open_status
from orchestrator.capture.log_observer import LoggingObserver
from orchestrator.graph.registry import registry
from orchestrator.observers.delivery import drain
from orchestrator.observers.subscription import Observer
from orchestrator.status.observer import StatusObserver
from workers.settings import Settings

TOLD_WITHIN_SECONDS = 10.0
"""So long the end of a process waits for observers that are behind."""


@asynccontextmanager
async def opened_observers(settings: Settings) -> AsyncIterator[tuple[Observer, ...]]:
    """The observers of these settings; they are told everything and closed at the end."""
    async with AsyncExitStack() as stack:
        observers: list[Observer] = []
        if settings.logs_url is not None:
            logging_observer = LoggingObserver(open_logs(settings.logs_url, namespace=settings.namespace))
            stack.push_async_callback(logging_observer.close)
            observers.append(logging_observer)
        if settings.status_url is not None:
            status = StatusObserver(open_status(settings.status_url, namespace=settings.namespace))
            stack.push_async_callback(status.close)
            observers.append(status)
        stack.push_async_callback(_all_told)
        yield tuple(observers)


async def _all_told() -> None:
    deliveries = [delivery for known in registry.known() for delivery in registry.find(*known).deliveries]
    await drain(deliveries, timeout_seconds=TOLD_WITHIN_SECONDS)
