"""The observers that settings ask for, told of every run that a process drives."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from backends.opening import open_logs, open_status
from orchestrator.capture.log_observer import LoggingObserver
from orchestrator.metrics.meter import Meter
from orchestrator.observers.delivery import Delivery, drain
from orchestrator.observers.draining import deliveries_here
from orchestrator.status.observer import StatusObserver
from workers.settings import Settings

log = logging.getLogger(__name__)

TOLD_WITHIN_SECONDS = 10.0
"""So long the end of a process waits for observers that take nothing any more."""


@dataclass(slots=True)
class OpenedObservers:
    """The observers of a process, and what became of them by its end."""

    keepers: list[LoggingObserver | StatusObserver] = field(default_factory=list)
    undelivered_count: int = 0

    def losses(self) -> tuple[str, ...]:
        """What they did not keep, a sentence each; it is whole once they are closed."""
        losses = [keeper.loss for keeper in self.keepers if keeper.loss is not None]
        if self.undelivered_count:
            losses.append(f"{self.undelivered_count} events were lost: an observer took none for too long")
        return tuple(losses)


@asynccontextmanager
async def opened_observers(settings: Settings, meter: Meter) -> AsyncIterator[OpenedObservers]:
    """The observers of these settings; they are told everything and closed at the end. What they drop is counted."""
    opened = OpenedObservers()
    if settings.logs_url is not None:
        opened.keepers.append(LoggingObserver(open_logs(settings.logs_url, namespace=settings.namespace)))
    if settings.status_url is not None:
        opened.keepers.append(StatusObserver(open_status(settings.status_url, namespace=settings.namespace)))
    async with AsyncExitStack() as stack:
        for keeper in opened.keepers:
            keeper.count_by(meter)
            stack.push_async_callback(keeper.close)
        try:
            yield opened
        finally:
            opened.undelivered_count = await _untold()


async def _untold() -> int:
    """Wait as long as observers take events, then drop what is left; how many that are."""
    deliveries = deliveries_here()
    before, left = None, _left(deliveries)
    while left and left != before:
        await asyncio.gather(*(delivery.wait(timeout_seconds=TOLD_WITHIN_SECONDS) for delivery in deliveries))
        before, left = left, _left(deliveries)
    untold = (await drain(deliveries, timeout_seconds=0)).undelivered_count
    if untold:
        log.error("observers were not told everything", extra={"count": untold})
    return untold


def _left(deliveries: Iterable[Delivery]) -> int:
    return sum(delivery.undelivered_count for delivery in deliveries)
