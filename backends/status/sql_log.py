"""The output of instances, on SQLite or PostgreSQL."""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, text

from backends.checkpointers.sql.clock import to_number, to_time
from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import bring_up_to_date
from backends.checkpointers.sql.schema import schema
from backends.thread_work import to_its_end
from backends.untraced import untrace_thread
from orchestrator.capture.line import LogStream
from orchestrator.capture.log_store import PLAIN_FIELDS, LogFilter, LogRow

T = TypeVar("T")

_ONE_BY_ONE = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
"""Has the writers of a run wait for each other; the order of the keys keeps those of several runs from a deadlock."""


class SqlLogStore:
    """A `LogStore` in one table of a namespace; nothing is connected before the first call."""

    def __init__(self, url: str, *, namespace: str) -> None:
        self._table = schema(namespace).log
        self._namespace = namespace
        self._database = Database(url)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="log-writer", initializer=untrace_thread)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="log-reader", initializer=untrace_thread)
        self._preparing = threading.Lock()
        self._is_prepared = False

    async def append(self, rows: Sequence[LogRow]) -> None:
        told = [_columns(row) for row in rows]
        if told:
            written = self._in_thread(self._writer, lambda: self._database.write(lambda db: self._insert(db, told)))
            await to_its_end(written)

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

        rows = await self._in_thread(self._reader, lambda: self._database.read(select_rows))
        return rows, rows[-1].sequence if rows else after

    async def delete(self, run_id: str) -> None:
        of_run = delete(self._table).where(self._table.c.run_id == run_id)
        await self._in_thread(self._writer, lambda: self._database.write(lambda db: db.execute(of_run)))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _insert(self, db: Connection, told: Sequence[dict[str, Any]]) -> None:
        if db.dialect.name == "postgresql":
            # Numbers are given out before a commit: whoever follows a run would pass over a lower one that comes later.
            db.execute(_ONE_BY_ONE, {"keys": sorted({self._lock_key(row["run_id"]) for row in told})})
        db.execute(insert(self._table), told)

    def _lock_key(self, run_id: str) -> int:
        digest = blake2b(f"{self._table.name} {run_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, signed=True)

    def _in_thread(self, thread: ThreadPoolExecutor, transaction: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(thread, self._prepared, transaction)

    def _prepared(self, transaction: Callable[[], T]) -> T:
        with self._preparing:
            if not self._is_prepared:
                bring_up_to_date(self._database, self._namespace)
                self._is_prepared = True
        return transaction()

    def _close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._database.close()


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
