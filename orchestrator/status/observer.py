"""The observer that keeps what became of every instance, row by row."""

import asyncio
from typing import TypedDict, Unpack

from orchestrator.observers.event import NODE_PHASES, Event, InstanceState, InvocationEvent, Phase
from orchestrator.observers.outbox import Outbox
from orchestrator.observers.writing import WritingObserver
from orchestrator.status.row import StatusRow, row_of
from orchestrator.status.rows import StatusRows
from orchestrator.status.store import NodePath, StatusStore, get_status

FLUSH_SECONDS = 0.5
FLUSH_ROWS = 1000
MOST_WAITING = 100_000


class StatusQuery(TypedDict, total=False):
    """What `get_status` takes."""

    run: str | None
    node: NodePath | None
    state: InstanceState | str | None
    latest: bool
    index: int | None


class StatusObserver(WritingObserver):
    """Appends a row to a store for every state that an instance comes to, in any number of invocations at once.

    Rows are written in batches, off the event loop: every `flush_interval` seconds, when `flush_every` wait, and when
    an invocation has ended, before the next event of it is told. A store that is slower than rows come is waited for by
    whoever tells events, never by the run. A batch that cannot be written is tried again, and `health` says why rows
    wait; when more than `most_waiting` do, the oldest are dropped. So is what is left at the end, and what is told
    after `close`: await the graph's `drain` first. What is dropped is counted in `dropped` and logged. A run never
    fails by it.

    Args:
        store: where rows are kept; it is closed with the observer.
        nodes: whether every attempt at a node has rows as well; these bring the states of nodes along from workers.
        flush_on_write: whether each row is written before the next event is told.
        flush_every: so many rows are one batch.
        flush_interval: the seconds that a row waits at most, while the store can be written.
        most_waiting: the rows that may wait in memory.
    """

    def __init__(
        self,
        store: StatusStore,
        *,
        nodes: bool = False,
        flush_on_write: bool = False,
        flush_every: int = FLUSH_ROWS,
        flush_interval: float = FLUSH_SECONDS,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self.store = store
        self.phases = frozenset({Phase.INSTANCE, Phase.INVOCATION}) | (NODE_PHASES if nodes else frozenset())
        self._flush_on_write = flush_on_write
        outbox: Outbox[StatusRow] = Outbox(
            store.append,
            what="status rows",
            every_seconds=flush_interval,
            most_waiting=most_waiting,
            batch_rows=flush_every,
        )
        super().__init__(store, outbox)

    async def __call__(self, event: Event) -> None:
        row = row_of(event)
        if row is not None:
            self._outbox.add((row,))
        has_ended = isinstance(event, InvocationEvent) and event.has_ended
        if has_ended or (row is not None and self._flush_on_write):
            await self._outbox.flush()
        else:
            await self._outbox.keep_up()

    async def get_status(self, **which: Unpack[StatusQuery]) -> StatusRows:
        """What became of instances and nodes so far, also in other processes; see the function of that name.

        Raises:
            ValueError: there is no such state.
            OperatorError: the store is away.
        """
        await self.flush()
        return await get_status(self.store, **which)

    def read_status(self, **which: Unpack[StatusQuery]) -> StatusRows:
        """`get_status`, for code without an event loop."""
        return asyncio.run(self.get_status(**which))
