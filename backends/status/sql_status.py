"""What became of instances and nodes, on SQLite or PostgreSQL."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, insert, select

from backends.checkpointers.sql.clock import to_number, to_time
from backends.checkpointers.sql.schema import schema
from backends.checkpointers.sql.threads import DatabaseThreads
from orchestrator.identity import Level
from orchestrator.observers.event import InstanceState
from orchestrator.status.row import StatusRow
from orchestrator.status.store import StatusFilter

Lineage = tuple[Level, ...]

_PLAIN = (
    *("run_id", "invocation_id", "correlation_id", "key", "attempt", "delivery", "worker", "duration_seconds"),
    *("error_category", "error_type", "error_message"),
)
"""The fields that have a column of the same name and kind."""

_PLAIN_OF = attrgetter(*_PLAIN)
_COLUMNS = (*_PLAIN, "names", "node", "lineage", "idx", "state", "at")


class SqlStatusStore:
    """A `StatusStore` in two tables of a namespace; nothing is connected before the first call."""

    def __init__(self, url: str, *, namespace: str) -> None:
        tables = schema(namespace)
        self._status, self._tags = tables.status, tables.status_tag
        self._threads = DatabaseThreads(url, namespace=namespace, name="status", is_durable=False)

    async def append(self, rows: Sequence[StatusRow]) -> None:
        if rows:
            await self._threads.write_to_the_end(lambda db: self._insert(db, rows))

    async def read(self, which: StatusFilter) -> list[StatusRow]:
        return await self._threads.read(lambda db: self._select(db, which))

    async def delete(self, run_id: str) -> None:
        await self._threads.write(lambda db: self._delete(db, run_id))

    async def close(self) -> None:
        await self._threads.close()

    def _insert(self, db: Connection, rows: Sequence[StatusRow]) -> None:
        values = [_values(row) for row in rows]
        if not any(row.tags for row in rows):
            db.exec_driver_sql(_insertion(self._status, _COLUMNS, db), values)
            return
        numbered = insert(self._status).returning(self._status.c.sequence, sort_by_parameter_order=True)
        sequences = db.scalars(numbered, [dict(zip(_COLUMNS, one, strict=True)) for one in values])
        tags = [
            (sequence, name, row.tags[name]) for sequence, row in zip(sequences, rows, strict=True) for name in row.tags
        ]
        db.exec_driver_sql(_insertion(self._tags, ("sequence", "name", "value"), db), tags)

    def _delete(self, db: Connection, run_id: str) -> None:
        rows = self._wanted(StatusFilter(run_id))
        db.execute(delete(self._tags).where(self._tags.c.sequence.in_(rows)))
        db.execute(delete(self._status).where(self._status.c.run_id == run_id))

    def _select(self, db: Connection, which: StatusFilter) -> list[StatusRow]:
        wanted = self._wanted(which).order_by(self._status.c.sequence).limit(which.limit)
        tags: dict[int, dict[str, str]] = defaultdict(dict)
        for sequence, name, value in db.execute(select(self._tags).where(self._tags.c.sequence.in_(wanted))):
            tags[sequence][name] = value
        rows = select(self._status).where(self._status.c.sequence.in_(wanted)).order_by(self._status.c.sequence)
        found = db.execute(rows).mappings()
        return [_row({str(name): one[name] for name in one}, tags.get(one["sequence"], {})) for one in found]

    def _wanted(self, which: StatusFilter) -> Select[tuple[int]]:
        """The sequences of the rows that are wanted."""
        table, columns = self._status, self._status.c
        subjects: list[ColumnElement[bool]] = []
        if which.run_id is not None:
            subjects.append(columns.run_id == which.run_id)
        if which.node is not None:
            subjects.append(columns.names == _names(which.node))
        if which.index is not None:
            subjects.append(columns.idx == which.index)
        wanted = select(columns.sequence).where(*subjects)
        if which.latest:
            last = select(func.max(columns.sequence)).where(*subjects)
            wanted = select(columns.sequence).where(
                columns.sequence.in_(last.group_by(columns.run_id, columns.names, columns.lineage))
            )
        return wanted if which.state is None else wanted.where(table.c.state == which.state.value)


def _insertion(table: Table, names: Sequence[str], db: Connection) -> str:
    """The statement as the driver takes it: compiling the values of each row would take longer than to write them."""
    place = "?" if db.dialect.paramstyle == "qmark" else "%s"
    columns, places = ", ".join(names), ", ".join([place] * len(names))
    return f"INSERT INTO {db.dialect.identifier_preparer.format_table(table)} ({columns}) VALUES ({places})"


def _values(row: StatusRow) -> tuple[Any, ...]:
    """The values of a row, as `_COLUMNS` has them."""
    node = _names(row.node), row.node_path, _lineage(row.lineage)
    return (*_PLAIN_OF(row), *node, row.index, row.state.value, to_number(row.at))


def _row(columns: Mapping[str, Any], tags: Mapping[str, str]) -> StatusRow:
    return StatusRow(
        **{name: columns[name] for name in _PLAIN},
        node=tuple(json.loads(columns["names"])),
        lineage=tuple(Level(*level) for level in json.loads(columns["lineage"])),
        index=columns["idx"],
        state=InstanceState(columns["state"]),
        at=to_time(columns["at"]),
        tags=tags,
        sequence=columns["sequence"],
    )


@lru_cache(maxsize=1000)
def _names(node: tuple[str, ...]) -> str:
    return json.dumps(node)


@lru_cache(maxsize=1000)
def _lineage(lineage: Lineage) -> str:
    return json.dumps([[level.node, level.index, level.branch] for level in lineage])
