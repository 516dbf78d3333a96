"""Keeps what instances put out."""

from collections.abc import Iterator
from itertools import chain

from orchestrator.capture.log_store import LogRow, LogStore, read_logs
from orchestrator.observers.event import Event, InstanceLogEvent, InvocationEvent, Phase
from orchestrator.observers.outbox import Outbox
from orchestrator.observers.writing import WritingObserver
from orchestrator.status.row import sound_text

FLUSH_SECONDS = 0.5


class LoggingObserver(WritingObserver):
    """An observer that writes what instances print and log, and the tracebacks they end with, to a store.

    One serves any number of runs at once. Rows are written in batches, every `flush_interval` seconds and at the end of
    each invocation. While the store is away they wait, and `health` says why; those that were given up are counted in
    `dropped`. None of this disturbs a run. Close it when it is not used any more, after the graph's `drain`: what it is
    told later is dropped.
    """

    phases = frozenset({Phase.LOGGED, Phase.INVOCATION})

    def __init__(self, store: LogStore, *, flush_interval: float = FLUSH_SECONDS) -> None:
        self._store = store
        outbox: Outbox[LogRow] = Outbox(store.append, what="log lines", every_seconds=flush_interval)
        super().__init__(store, outbox)

    async def __call__(self, event: Event) -> None:
        match event:
            case InstanceLogEvent():
                self._outbox.add(_rows(event))
                await self._outbox.keep_up()
            case InvocationEvent(has_ended=True):
                await self._outbox.flush()

    async def get_logs(self, run: str, *, index: int | None = None, node: str | None = None) -> list[LogRow]:
        """What the instances of a run have put out so far, see `read_logs`; what waits is written before."""
        await self.flush()
        return await read_logs(self._store, run, index=index, node=node)


def _rows(event: InstanceLogEvent) -> Iterator[LogRow]:
    named = chain.from_iterable(zip(event.namespace, event.branch_name_chain, strict=True))
    node = "/".join(name for name in named if name is not None)
    indexes = tuple(index for index in event.fan_out_index_chain if index is not None)
    for number, line in enumerate(event.lines, event.first_number):
        yield LogRow(
            run_id=event.run_id,
            invocation_id=event.invocation_id,
            correlation_id=event.correlation_id,
            node=node,
            indexes=indexes,
            key=_sound(event.key),
            delivery=event.delivery,
            worker=event.worker,
            source=event.source,
            number=number,
            stream=line.stream,
            at=line.at,
            text=line.text,
            level=_sound(line.level),
            logger=_sound(line.logger),
            is_cut=line.is_cut,
            inner_node=_sound(line.inner_node),
            attempt=line.attempt,
        )


def _sound(text: str | None) -> str | None:
    return None if text is None else sound_text(text)
