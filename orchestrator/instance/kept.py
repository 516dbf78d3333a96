"""What an instance has got so far: kept in the ledger while it runs, found again by its next delivery."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count

from orchestrator.checkpoint.row import FanOutRow, Step
from orchestrator.errors import OperatorError
from orchestrator.execution.patience import pause
from orchestrator.fan_out.entry import (
    ITEM_HASH_BYTES,
    Entry,
    EventsTold,
    NestedOpened,
    NestedReported,
    NodeCompleted,
    read_entries,
    write_entry,
)
from orchestrator.identity import FanOutKey, Lineage, Slot
from orchestrator.ledger.claim import Claimed, Held
from orchestrator.report import Report

log = logging.getLogger(__name__)

TOLD_EVERY_SECONDS = 1.0
"""A long instance is heard of so often."""

Keep = Callable[[str, Held, Sequence[bytes]], Awaitable[bool]]
"""Keeps entries of an instance of a run; false where its token is stale."""


def in_ledger(progress: Callable[[str, Held, Sequence[bytes]], bool]) -> Keep:
    """Keep in a ledger, by its `progress`, from a thread."""

    async def keep(run_id: str, held: Held, entries: Sequence[bytes]) -> bool:
        return await asyncio.to_thread(progress, run_id, held, entries)

    return keep


def _nothing() -> tuple[str, ...]:
    return ()


@dataclass(slots=True)
class Reached:
    """How far earlier deliveries came in one instance: its completed nodes, and how often fan-outs are over."""

    steps: list[Step] = field(default_factory=list)
    entered: Counter[FanOutKey] = field(default_factory=Counter)


class Kept:
    """The nested results and durable nodes of one delivery of an outer instance, and of the deliveries before it.

    All that is added during a call goes with the next: thousands of quick nested instances need few calls. While the
    service is away it is sent again; where the token is stale, nothing is wanted any more. Without `keep` nothing is
    added. `events` gives those that happened since it was last asked: they go with what is sent, and at least once a
    second.
    """

    def __init__(
        self,
        outer: Claimed,
        keep: Keep | None,
        *,
        invocation_id: str = "",
        events: Callable[[], tuple[str, ...]] = _nothing,
    ) -> None:
        self._run_id = outer.run_id
        self._held = Held(outer.slot, outer.token)
        self._invocation_id = invocation_id
        self._delivery = outer.delivery
        self._keep = keep
        self._events = events
        self._found = read_entries(outer.progress)
        self._opened = {one.row.id: one.row for one in self._found if isinstance(one, NestedOpened)}
        self._reports = {one.report.slot: one.report for one in self._found if isinstance(one, NestedReported)}
        self._entered: set[str] = set()
        self._waiting: list[bytes] = []
        self._asked: list[Callable[[], None]] = []
        self._sending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_keeping(self) -> bool:
        """Whether what is added is kept, for the record."""
        return self._keep is not None

    def reached(self, lineage: Lineage) -> Reached:
        """How far earlier deliveries came in the instance of that lineage, up to its last completed node."""
        reached, entered = Reached(), list[FanOutKey]()
        for entry in self._found:
            match entry:
                case NestedOpened(row):
                    entered.append(replace(row.key, visit=0))
                case NodeCompleted(step) if step.lineage == lineage:
                    reached.steps.append(step)
                    over = [key for key in entered if _is_over(key, step)]
                    reached.entered.update(over)
                    entered = [key for key in entered if key not in over]
        return reached

    def enter(self, row: FanOutRow) -> tuple[FanOutKey, dict[int, Report]]:
        """Enter a nested fan-out; its key from now on, and how its instances ended in earlier deliveries.

        An earlier delivery may have entered it with other items. Then this is another entry, which takes over the
        results of those instances that begin with the same state.
        """
        found: dict[int, Report] = {}
        for visit in count(row.key.visit):
            key = replace(row.key, visit=visit)
            before = self._opened.get(key.id)
            if key.id in self._entered:
                continue
            self._entered.add(key.id)
            if before is None:
                self._opened[key.id] = replace(row, key=key)
                self._add(NestedOpened(self._opened[key.id]))
                break
            own = self._found_of(before, row)
            if before.has_items_of(row):
                return key, own
            found = {**found, **own}
        moved = {index: replace(report, slot=Slot(key.id, index)) for index, report in found.items()}
        for index, report in moved.items():
            self.add(report, None if row.item_keys is None else row.item_keys[index])
        return key, moved

    def add(self, report: Report, key: str | None) -> None:
        """Keep what a nested instance has contributed, soon."""
        self._add(NestedReported(report, key))

    async def complete(self, steps: Sequence[Step]) -> None:
        """Keep completed nodes; they are kept once this returns."""
        for step in steps:
            self._add(NodeCompleted(step))
        await self._sent()

    @contextmanager
    def asking(self, tell: Callable[[], None]) -> Iterator[None]:
        """In here, have `tell` add its events to those that are sent, before they are."""
        self._asked.append(tell)
        try:
            yield
        finally:
            self._asked.remove(tell)

    def begin(self) -> None:
        """Tell once a second what happens, from now on."""
        if self._keep is not None:
            self._timer = asyncio.get_running_loop().call_later(TOLD_EVERY_SECONDS, self._tell)

    async def end(self) -> None:
        """Wait until all that was added is kept, or is not wanted any more; what happens later goes with the report."""
        if self._timer is not None:
            self._timer.cancel()
        await self._sent()

    def _found_of(self, before: FanOutRow, row: FanOutRow) -> dict[int, Report]:
        places = (Slot(before.id, index) for index in range(min(before.instance_count, row.instance_count)))
        return {
            slot.index: self._reports[slot]
            for slot in places
            if slot in self._reports and _hash(before, slot.index) in (b"", _hash(row, slot.index))
        }

    def _add(self, entry: Entry) -> None:
        if self._keep is not None:
            self._waiting.append(write_entry(entry))
            self._send_soon()

    def _tell(self) -> None:
        self.begin()
        self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _sent(self) -> None:
        if self._sending is not None:
            await asyncio.shield(self._sending)

    async def _send(self) -> None:
        # The timer may be set again before the answer that nothing is wanted any more.
        while self._keep is not None and (entries := self._next()):
            if not await _insisted(partial(self._keep, self._run_id, self._held, entries), self._run_id):
                self._keep = None

    def _next(self) -> list[bytes]:
        entries, self._waiting = [*self._told(), *self._waiting], []
        return entries

    def _told(self) -> list[bytes]:
        """What happened; where that cannot be told, what is kept is kept all the same."""
        try:
            for tell in tuple(self._asked):
                tell()
            events = self._events()
        except Exception:
            log.exception("events not told", extra={"run_id": self._run_id, "index": self._held.slot.index})
            return []
        return [write_entry(EventsTold(self._invocation_id, self._delivery, events))] if events else []


async def _insisted(keep: Callable[[], Awaitable[bool]], run_id: str) -> bool:
    """Send until it is answered; false where the token is stale."""
    for failures in count():
        try:
            return await keep()
        except OperatorError as error:
            log.warning("progress not kept yet", extra={"run_id": run_id, "error": str(error)})
            await pause(failures)
    raise AssertionError("count() never ends")


def _is_over(key: FanOutKey, step: Step) -> bool:
    """Whether a fan-out that was entered before the node was completed is over: another branch may be in it still."""
    length = min(len(key.namespace), len(step.namespace))
    return key.namespace[:length] == step.namespace[:length]


def _hash(row: FanOutRow, index: int) -> bytes:
    return row.item_hashes[ITEM_HASH_BYTES * index : ITEM_HASH_BYTES * (index + 1)]
