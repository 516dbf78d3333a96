"""The output of instances, on SQLite or PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text

from backends.checkpointers.sql.clock import to_number, to_time
from backends.checkpointers.sql.schema import schema
from backends.checkpointers.sql.threads import DatabaseThreads
from orchestrator.capture.line import LogStream
from orchestrator.capture.log_store import PLAIN_FIELDS, LogFilter, LogRow

_ONE_BY_ONE = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
"""Has the writers of a run wait for each other; the order of the keys keeps those of several runs from a deadlock."""


class SqlLogStore:
    """A `LogStore` in one table of a namespace; nothing is connected before the first call."""

    def __init__(self, url: str, *, namespace: str) -> None:
        self._table = schema(namespace).log
        self._threads = DatabaseThreads(url, namespace=namespace, name="log")

    async def append(self, rows: Sequence[LogRow]) -> None:
        told = [_columns(row) for row in rows]
        if told:
            await self._threads.write_to_the_end(lambda db: self._insert(db, told))

    async def read(self, run_id: str, which: LogFilter, *, after: int, limit: int) -> tuple[list[LogRow], int]:
        def select_rows(db: Connection) -> list[LogRow]:
            table = self._table
            wanted = select(table).where(table.c.run_id == run_id, table.c.sequence > after)
            if which.index is not None:
                wanted = wanted.where(table.c.idx == which.index)
            if which.node is not None:
                wanted = wanted.where(table.c.node == which.node)
            found = db.execute(wanted.order_by(table.c.sequence).limit(limit)).mappings()
            return [_row({str(name): columns[name] for name in columns}) for columns in found]

        rows = await self._threads.read(select_rows)
        return rows, rows[-1].sequence if rows else after

    async def delete(self, run_id: str) -> None:
        of_run = delete(self._table).where(self._table.c.run_id == run_id)
        await self._threads.write(lambda db: db.execute(of_run))

    async def close(self) -> None:
        await self._threads.close()

    def _insert(self, db: Connection, told: Sequence[dict[str, Any]]) -> None:
        if db.dialect.name == "postgresql":
            # Numbers are given out before a commit: whoever follows a run would pass over a lower one that comes later.
            db.execute(_ONE_BY_ONE, {"keys": sorted({self._lock_key(row["run_id"]) for row in told})})
        db.execute(insert(self._table), told)

    def _lock_key(self, run_id: str) -> int:
        digest = blake2b(f"{self._table.name} {run_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, signed=True)


def _columns(row: LogRow) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in PLAIN_FIELDS}
    indexes = {"indexes": json.dumps(row.indexes), "idx": row.index}
    return {**plain, **indexes, "stream": row.stream.value, "at": to_number(row.at)}


def _row(columns: Mapping[str, Any]) -> LogRow:
    return LogRow(
        **{name: columns[name] for name in PLAIN_FIELDS},
        indexes=tuple(json.loads(columns["indexes"])),
        stream=LogStream(columns["stream"]),
        at=to_time(columns["at"]),
        sequence=columns["sequence"],
    )
