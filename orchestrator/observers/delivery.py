"""One strictly serial queue of events for each invocation."""

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from weakref import WeakSet

from orchestrator.observers.emitter import Home, Path
from orchestrator.observers.event import Event, Phase
from orchestrator.observers.subscription import Subscription

log = logging.getLogger(__name__)

AT_ONCE = 200
"""So many are told before others have their turn."""

Audience = Callable[[Path], Iterator[Subscription]]
"""Who is told of events of the graph with that namespace, in the order of telling."""


@dataclass(frozen=True, slots=True)
class DrainSummary:
    """What waiting for events came to: how many were not told, those given up before it with them."""

    undelivered_count: int = 0
    timeout_reached: bool = False


class Delivery:
    """Tells the observers of one invocation, event by event, each event to all of them before the next.

    It is the emitter of what the orchestrator steps itself. `step` is the number of the first executed node.
    `wanted` is what anybody is told of. Observers run in the context that it is made in.
    """

    def __init__(self, audience: Audience, *, wanted: Collection[Phase], step: int = 0) -> None:
        self.wanted = frozenset(wanted)
        self._audience = audience
        self._home = Home()
        # Of the run, and not of whichever node or instance has something to tell while nothing else is told.
        self._context = contextvars.copy_context()
        self._step = step
        self._waiting: deque[tuple[Iterable[Event], list[Subscription]]] = deque()
        self._announced = 0
        self._settled = 0
        self._given_up = 0
        self._unsaid = 0
        self._task: asyncio.Task[None] | None = None
        self._progressed = asyncio.Condition()
        self._awaited = 0

    @property
    def undelivered_count(self) -> int:
        """How many wait, with those that were given up and that no drain has counted yet."""
        return self._announced - self._settled + self._unsaid

    @property
    def is_here(self) -> bool:
        """Whether this runs in the loop that it tells events in, where alone it can be waited for."""
        return self._home.is_here

    def wants(self, phase: Phase) -> bool:
        return phase in self.wanted

    def next_step(self) -> int:
        self._step += 1
        return self._step - 1

    def emit(self, event: Event, path: Path) -> None:
        if self._home.is_elsewhere:
            self._home.call(self.emit, event, path)
            return
        self._announce((event,), event, path, count=1)

    def emit_many(self, events: Iterable[Event], path: Path, *, count: int) -> None:
        if self._home.is_elsewhere:
            self._home.call(self.emit_many, events, path, count=count)
            return
        made = iter(events)
        for first in made:
            self._announce(chain((first,), made), first, path, count=count)
            return

    async def wait(self, *, timeout_seconds: float | None) -> DrainSummary:
        """Wait until all that is announced by now has been delivered; what was ever given up instead is counted."""
        mark = self._announced
        self._awaited += 1
        try:
            async with asyncio.timeout(timeout_seconds), self._progressed:
                await self._progressed.wait_for(lambda: self._settled >= mark)
        except TimeoutError:
            return DrainSummary(mark - self._settled + self._given_up, timeout_reached=True)
        finally:
            self._awaited -= 1
        return DrainSummary(self._given_up)

    def drop(self) -> int:
        """Deliver nothing more, and cancel what an observer is at; how many that are, with those of `take_unsaid`."""
        self._give_up()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        return self.take_unsaid()

    def take_unsaid(self) -> int:
        """How many were given up since this was last asked."""
        count, self._unsaid = self._unsaid, 0
        return count

    def _announce(self, events: Iterable[Event], first: Event, path: Path, *, count: int) -> None:
        told = [subscription for subscription in self._audience(path) if subscription.wants(first)]
        if not told:
            return
        self._announced += count
        self._waiting.append((events, told))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._deliver(), context=self._context.copy())

    async def _deliver(self) -> None:
        this = asyncio.current_task()
        try:
            for event, told in self._next_events():
                for subscription in told:
                    await subscription.tell(event)
                if self._task is not this:
                    return
                self._settled += 1
                await self._let_others_on()
        finally:
            if self._task is this:
                # Ended before the last: nobody is to wait for what is told no more.
                lost = self._give_up()
                if lost:
                    log.error("observers were not told everything", extra={"count": lost})
            await self._show_progress()

    def _give_up(self) -> int:
        lost = self._announced - self._settled
        self._waiting.clear()
        self._settled = self._announced
        self._given_up += lost
        self._unsaid += lost
        return lost

    def _next_events(self) -> Iterator[tuple[Event, list[Subscription]]]:
        while self._waiting:
            events, told = self._waiting.popleft()
            for event in events:
                yield event, told

    async def _let_others_on(self) -> None:
        await self._show_progress()
        if self._settled % AT_ONCE == 0:
            await asyncio.sleep(0)

    async def _show_progress(self) -> None:
        if self._awaited:
            async with self._progressed:
                self._progressed.notify_all()


class DeliverySet:
    """Deliveries that live as long as their invocations; they may be added in any thread."""

    def __init__(self) -> None:
        self._kept: WeakSet[Delivery] = WeakSet()
        self._looking = threading.Lock()

    def add(self, delivery: Delivery) -> None:
        with self._looking:
            self._kept.add(delivery)

    def here(self) -> list[Delivery]:
        """Those that tell their events in the running loop."""
        with self._looking:
            kept = list(self._kept)
        return [delivery for delivery in kept if delivery.is_here]


async def drain(deliveries: Sequence[Delivery], *, timeout_seconds: float | None) -> DrainSummary:
    """Wait until these, all of this loop, have delivered everything; what is left when the time is over is dropped.

    What was given up before, as where an observer ended whoever told it, is counted too, once.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            for delivery in deliveries:
                await delivery.wait(timeout_seconds=None)
    except TimeoutError:
        return DrainSummary(sum(delivery.drop() for delivery in deliveries), timeout_reached=True)
    return DrainSummary(sum(delivery.take_unsaid() for delivery in deliveries))
