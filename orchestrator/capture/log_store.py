"""Where the output of instances is kept, and how it is read."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from orchestrator.capture.line import LogStream

PAGE_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A line that an instance put out, and where.

    `node` is the path of the fan-out, `indexes` are those of the instances around this place, outermost first, this
    one's last. `inner_node` is the path of the node inside it that wrote the line, and `attempt` its try, from 0, where
    they are known. `source` is one delivery of the instance, and `number` counts its lines. `sequence` is the store's:
    rows of a run are read in its order.
    """

    run_id: str
    invocation_id: str
    correlation_id: str
    node: str
    indexes: tuple[int, ...]
    key: str | None
    delivery: int
    worker: str
    source: str
    number: int
    stream: LogStream
    at: datetime
    text: str
    level: str | None = None
    logger: str | None = None
    is_cut: bool = False
    inner_node: str | None = None
    attempt: int | None = None
    sequence: int = 0

    @property
    def index(self) -> int:
        """That of the instance itself, in its fan-out."""
        return self.indexes[-1]


PLAIN_FIELDS = (
    *("run_id", "invocation_id", "correlation_id", "node", "key", "delivery", "worker", "source", "number"),
    *("level", "logger", "text", "is_cut", "inner_node", "attempt"),
)
"""The fields of a row that are texts, numbers and booleans, which every store keeps as they are; new ones come last."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which rows are wanted: of instances with that index, and of the fan-out at that path."""

    index: int | None = None
    node: str | None = None

    def takes(self, row: LogRow) -> bool:
        return self.index in (None, row.index) and self.node in (None, row.node)


EVERYTHING = LogFilter()


class LogStore(Protocol):
    """Keeps rows. A row may be kept twice, where a run was taken over in between; `read_logs` gives it once."""

    async def append(self, rows: Sequence[LogRow]) -> None:
        """Keep rows, behind those that are kept already; their sequence is given here.

        A cancellation is raised only where none is kept.

        Raises:
            OperatorError: the store is away.
        """

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        """Rows of a run whose sequence is higher than `after`, in its order, at most `limit`.

        With them comes how far that was: read on from there. Where it is `after` again there are no more.

        Raises:
            OperatorError: the store is away.
        """

    async def delete(self, run_id: str) -> None:
        """Keep nothing of a run any more; where nothing is kept this does nothing.

        Raises:
            OperatorError: the store is away.
        """

    async def close(self) -> None:
        """Let connections go."""


class MemoryLogStore:
    """Keeps rows as long as this process lives."""

    def __init__(self) -> None:
        self._runs: dict[str, list[LogRow]] = {}

    async def append(self, rows: Sequence[LogRow]) -> None:
        for row in rows:
            kept = self._runs.setdefault(row.run_id, [])
            kept.append(replace(row, sequence=len(kept) + 1))

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        page = self._runs.get(run_id, [])[after : after + limit]
        return [row for row in page if which.takes(row)], after + len(page)

    async def delete(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    async def close(self) -> None:
        """Keep it all: whoever opened it may read it yet."""


class LogReading:
    """Reads the rows of one run, each once, from the first one on."""

    def __init__(self, store: LogStore, run_id: str, which: LogFilter = EVERYTHING) -> None:
        self._store = store
        self._run_id = run_id
        self._which = which
        self._after = 0
        self._told: dict[str, int] = {}

    async def following(self) -> AsyncIterator[LogRow]:
        """The rows that have come since it was last asked.

        Raises:
            OperatorError: the store is away.
        """
        while True:
            rows, reached = await self._store.read(self._run_id, self._which, after=self._after, limit=PAGE_ROWS)
            for row in rows:
                if self._is_news(row):
                    yield row
            if reached == self._after:
                return
            self._after = reached

    def _is_news(self, row: LogRow) -> bool:
        """Whether the row was not given yet: a new owner of the run keeps again what the one before may have kept."""
        is_news = row.number > self._told.get(row.source, 0)
        if is_news:
            self._told[row.source] = row.number
        return is_news


async def read_logs(store: LogStore, run_id: str, *, index: int | None = None, node: str | None = None) -> list[LogRow]:
    """What the instances of a run have put out so far, in the order in which it was told.

    Args:
        store: where it is kept.
        run_id: the run, by its whole id.
        index: only instances with that index, in whichever fan-out.
        node: only the fan-out at that path, as in outer/files.

    Raises:
        OperatorError: the store is away.
    """
    return [row async for row in LogReading(store, run_id, LogFilter(index, node)).following()]
