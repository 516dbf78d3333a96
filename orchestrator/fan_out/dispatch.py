"""How a window is kept full: queue in the ledger first, then pass the word."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.checkpoint.row import Ownership
from orchestrator.crashpoint import crashpoint
from orchestrator.errors import BrokerUnavailable, OperatorError
from orchestrator.execution.lane import Lane, Options
from orchestrator.fan_out.inner import InnerRecords
from orchestrator.fan_out.pressure import Pressure
from orchestrator.fan_out.progress import OpenFanOut
from orchestrator.fan_out.window import window
from orchestrator.identity import Slot
from orchestrator.ledger.view import QueueAnswer, QueuedItem

if TYPE_CHECKING:
    from orchestrator.execution.executor import Hint

LARGEST_BATCH = 500


class Dispatcher:
    """Queues instances and passes the word for them. `health` says what is missing for them to run, or is None."""

    def __init__(
        self, lane: Lane, ownership: Ownership, options: Options, *, inner: InnerRecords, pressure: Pressure
    ) -> None:
        self.health: str | None = None
        self._lane = lane
        self._inner = inner
        self._pressure = pressure
        self._ownership = ownership
        self._options = options
        # The publisher may fail after queue and before publish: what it was not told is told in the next turn.
        self._untold: deque[Hint] = deque()

    async def fill(self, fan_out: OpenFanOut) -> None:
        """Queue and dispatch as many instances as the window and the ledger have room for.

        What the ledger has lost, or may have lost the message of, is queued again first and in any case. A broker that
        is away is said in `health`; it must not keep what is done from being recorded.
        """
        if fan_out.failure is not None or not fan_out.is_announced:
            self._untold = deque(hint for hint in self._untold if hint.fan_out != fan_out.id)
            return
        briefing = fan_out.briefing
        capacity = await self._lane.executor.capacity(briefing.graph, briefing.fingerprint)
        fan_out.measured.slots(capacity.slots)
        self.health = None if capacity.slots else _no_worker(briefing.graph, briefing.fingerprint)
        room = window(fan_out.plan.concurrency, capacity) - len(fan_out.outstanding)
        # Those that were declined wait for a worker that has their graph: the others would decline them again.
        due_at = asyncio.get_running_loop().time() if capacity.slots else -math.inf
        limit = min(max(room, 0), LARGEST_BATCH) if self._pressure.has_room else 0
        slots = fan_out.take(limit, due_at)
        again = {slot for slot in slots if slot.index in fan_out.sizes}
        try:
            items = [item async for item in self._fitting(fan_out, slots)]
            if items:
                queued = await self._queue(fan_out, items)
                fan_out.measured.queued(len(queued), again=len(again.intersection(queued)))
        except OperatorError:
            fan_out.bring_back(slots)
            raise
        fitting = {item.slot for item in items}
        fan_out.bring_back(slot for slot in slots if slot not in fitting)
        await self._tell()

    async def _queue(self, fan_out: OpenFanOut, items: Sequence[QueuedItem]) -> list[Slot]:
        answers = await self._lane.ledger.queue(
            self._ownership.run_id,
            self._ownership.epoch,
            items,
            claim_deadline_seconds=self._options.claim_deadline.total_seconds(),
        )
        crashpoint("after_queue_before_publish")
        queued = [item for item, answer in zip(items, answers, strict=True) if answer is QueueAnswer.OK]
        for item in queued:
            fan_out.queued(item)
            fan_out.span.dispatched(item.slot.index, item.deliveries + 1)
            self._untold.append(fan_out.hint(item.slot))
        return [item.slot for item in queued]

    async def _fitting(self, fan_out: OpenFanOut, slots: Sequence[Slot]) -> AsyncIterator[QueuedItem]:
        """The items that the ledger has room for; one that it holds already needs none."""
        for slot in slots:
            held = fan_out.sizes.get(slot.index)
            if held is not None or self._pressure.has_room:
                item = await self._inner.item(fan_out, slot)
                self._pressure.add(item.size - (held or 0))
                fan_out.sizes[slot.index] = item.size
                yield item

    async def _tell(self) -> None:
        if not self._untold:
            return
        try:
            await self._lane.executor.dispatch(list(self._untold))
        except BrokerUnavailable as error:
            self.health = f"dispatch paused: {error}"
        else:
            crashpoint("after_publish")
            self._untold.clear()


def _no_worker(graph: str, fingerprint: str) -> str:
    return f"no live worker has graph {graph} (fingerprint {fingerprint}); start one with `rollforward worker`"
