"""Where status rows are kept, and how they are asked for."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow
from orchestrator.status.rows import StatusRows

NodePath = str | Sequence[str]
"""A node with those around it: `outer/files`, or the names one by one."""


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """Which rows are wanted: of that run, node, index and state; with `latest` only the last one of each subject.

    The state is that of the row that is given: with `latest`, one that has gone on to another state is left out. Of all
    these they are the first `limit`.
    """

    run_id: str | None = None
    node: tuple[str, ...] | None = None
    index: int | None = None
    state: InstanceState | None = None
    latest: bool = False
    limit: int | None = None

    def of(self, rows: Iterable[StatusRow]) -> list[StatusRow]:
        """Those of the rows, which are in order of their sequence, that are wanted."""
        found = [row for row in rows if self._is_of_subject(row)]
        if self.latest:
            found = sorted({row.subject: row for row in found}.values(), key=lambda row: row.sequence)
        return [row for row in found if self.state in (None, row.state)][: self.limit]

    def _is_of_subject(self, row: StatusRow) -> bool:
        return self.run_id in (None, row.run_id) and self.node in (None, row.node) and self.index in (None, row.index)


class StatusStore(Protocol):
    """Keeps rows for good: they are added, and never changed. Any number of processes and loops may use it at once.

    A row may be kept twice, where the store went away before it said that it had kept it; `read_once` gives it once.
    """

    async def append(self, rows: Sequence[StatusRow]) -> None:
        """Keep rows, all or none, behind those that are kept already; their sequence is given here.

        A cancellation is raised only where none is kept.

        Raises:
            OperatorError: the store is away; they may be given again, also where it may have kept them.
        """

    async def read(self, which: StatusFilter) -> list[StatusRow]:
        """The rows that are wanted, in order of their sequence.

        Raises:
            OperatorError: the store is away.
        """

    async def delete(self, run_id: str) -> None:
        """Drop the rows of a run; nothing happens where there are none.

        Raises:
            OperatorError: the store is away.
        """

    async def close(self) -> None:
        """Let connections go."""


class MemoryStatusStore:
    """Keeps rows as long as this process lives."""

    def __init__(self) -> None:
        self._rows: list[StatusRow] = []
        self._last = 0

    async def append(self, rows: Sequence[StatusRow]) -> None:
        for row in rows:
            self._last += 1
            self._rows.append(replace(row, sequence=self._last))

    async def read(self, which: StatusFilter) -> list[StatusRow]:
        return which.of(self._rows)

    async def delete(self, run_id: str) -> None:
        self._rows = [row for row in self._rows if row.run_id != run_id]

    async def close(self) -> None:
        """Keep it all: whoever opened it may read it yet."""


async def read_once(store: StatusStore, which: StatusFilter) -> list[StatusRow]:
    """The rows that are wanted, in order of their sequence, each as it was first kept.

    Raises:
        OperatorError: the store is away.
    """
    asked = which
    while True:
        found = await store.read(asked)
        # Of a wide run they are so many that the loop would stand still for a second.
        rows = await asyncio.to_thread(_each_once, found)
        if asked.limit is None or len(found) < asked.limit or len(rows) >= (which.limit or 0):
            return rows[: which.limit]
        # Of the first ones some were kept twice: others are wanted in their place.
        asked = replace(asked, limit=2 * asked.limit)


def _each_once(found: Iterable[StatusRow]) -> list[StatusRow]:
    rows: dict[tuple[Any, ...], StatusRow] = {}
    for row in found:
        rows.setdefault(row.told, row)
    return list(rows.values())


async def get_status(
    store: StatusStore,
    *,
    run: str | None = None,
    node: NodePath | None = None,
    state: InstanceState | str | None = None,
    latest: bool = False,
    index: int | None = None,
) -> StatusRows:
    """What became of instances and nodes so far, in order of the sequence; a run may be under way.

    Args:
        store: where it is kept.
        run: only that run, by its whole id.
        node: only that node: `outer/files`, or its names one by one.
        state: only rows of that state.
        latest: only the last row of each instance, and of each node in each place.
        index: only what is inside an instance of that index, or is one.

    Raises:
        ValueError: there is no such state.
        OperatorError: the store is away.
    """
    names = tuple(node.split("/")) if isinstance(node, str) else None if node is None else tuple(node)
    wanted = None if state is None else InstanceState(state)
    return StatusRows(await read_once(store, StatusFilter(run, names, index, wanted, latest)))
