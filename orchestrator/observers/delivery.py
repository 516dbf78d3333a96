"""One strictly serial queue of events for each invocation."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.observers.emitter import Home, Path
from orchestrator.observers.event import Event, Phase
from orchestrator.observers.subscription import Subscription

log = logging.getLogger(__name__)

Audience = Callable[[Path], Iterator[Subscription]]
"""Who is told of events of the graph with that namespace, in the order of telling."""


@dataclass(frozen=True, slots=True)
class DrainSummary:
    """What waiting for events came to."""

    undelivered_count: int = 0
    timeout_reached: bool = False


class Delivery:
    """Tells the observers of one invocation, event by event, each event to all of them before the next.

    It is the emitter of what the orchestrator steps itself. `step` is the number of the first executed node.
    `wanted` is what anybody is told of.
    """

    def __init__(self, audience: Audience, *, wanted: Collection[Phase], step: int = 0) -> None:
        self.wanted = frozenset(wanted)
        self._audience = audience
        self._home = Home()
        self._step = step
        self._waiting: deque[tuple[Event, list[Subscription]]] = deque()
        self._announced = 0
        self._delivered = 0
        self._task: asyncio.Task[None] | None = None
        self._progressed = asyncio.Condition()
        self._awaited = 0

    @property
    def undelivered_count(self) -> int:
        return self._announced - self._delivered

    def wants(self, phase: Phase) -> bool:
        return phase in self.wanted

    def next_step(self) -> int:
        self._step += 1
        return self._step - 1

    def emit(self, event: Event, path: Path) -> None:
        if self._home.is_elsewhere:
            self._home.call(self.emit, event, path)
            return
        told = [subscription for subscription in self._audience(path) if subscription.wants(event)]
        if not told:
            return
        self._announced += 1
        self._waiting.append((event, told))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._deliver())

    async def wait(self, *, timeout_seconds: float | None) -> DrainSummary:
        """Wait until all that is announced by now has been delivered."""
        mark = self._announced
        self._awaited += 1
        try:
            async with asyncio.timeout(timeout_seconds), self._progressed:
                await self._progressed.wait_for(lambda: self._delivered >= mark)
        except TimeoutError:
            return DrainSummary(mark - self._delivered, timeout_reached=True)
        finally:
            self._awaited -= 1
        return DrainSummary()

    def drop(self) -> None:
        """Deliver nothing more; what an observer is at is cancelled."""
        self._waiting.clear()
        self._delivered = self._announced
        if self._task is not None:
            self._task.cancel()

    async def _deliver(self) -> None:
        while self._waiting:
            event, told = self._waiting.popleft()
            for subscription in told:
                await _tell(subscription, event)
            self._delivered += 1
            if self._awaited:
                async with self._progressed:
                    self._progressed.notify_all()


async def drain(deliveries: Sequence[Delivery], *, timeout_seconds: float | None) -> DrainSummary:
    """Wait until these have delivered everything; what is left when the time is over is dropped."""
    try:
        async with asyncio.timeout(timeout_seconds):
            for delivery in deliveries:
                await delivery.wait(timeout_seconds=None)
    except TimeoutError:
        summary = DrainSummary(sum(delivery.undelivered_count for delivery in deliveries), timeout_reached=True)
        for delivery in deliveries:
            delivery.drop()
        return summary
    return DrainSummary()


async def _tell(subscription: Subscription, event: Event) -> None:
    try:
        await subscription.observer(event)
    except Exception:
        # An observer must not disturb the run, nor keep the others from being told.
        log.exception("observer failed", extra={"run_id": event.run_id, "observer": repr(subscription.observer)})
