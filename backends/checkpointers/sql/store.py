"""A checkpoint store on SQLite or PostgreSQL."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection

from backends.checkpointers.sql.database import Database
from backends.checkpointers.sql.migration import bring_up_to_date
from backends.checkpointers.sql.piece import Piece, Read, latest_in_pieces
from backends.checkpointers.sql.record_table import RecordTable
from backends.checkpointers.sql.record_view import RecordView
from backends.checkpointers.sql.run_table import Acquisition, RunTable
from backends.checkpointers.sql.schema import schema
from backends.untraced import untrace_thread
from orchestrator.checkpoint.compose import decompose
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import (
    FanOutRow,
    InnerRows,
    Loss,
    NewRun,
    Ownership,
    Renewal,
    Run,
    RunFilter,
    RunStatus,
    Seen,
    SlotRow,
    Step,
    Tally,
)
from orchestrator.crashpoint import crashpoint
from orchestrator.error_record import ErrorRecord
from orchestrator.identity import Slot

T = TypeVar("T")
Work = Callable[[Connection], T]


class SqlStore:
    """A `CheckpointStore` in the tables of one namespace, for any number of event loops.

    Nothing is connected before the first call, which also brings the tables to this version. All writes go through
    one thread with one connection, all reads through another. A SQLite file and its folder are made where they are
    absent, for their owner's eyes alone.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        tables = schema(namespace)
        self._namespace = namespace
        self._database = Database(url)
        self._runs = RunTable(tables)
        self._record = RecordTable(tables)
        self._view = RecordView(tables, self._runs)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-writer", initializer=untrace_thread)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-reader", initializer=untrace_thread)
        self._preparing = threading.Lock()
        self._is_prepared = False

    async def create(self, run: NewRun) -> Run:
        return await self._write(lambda db: self._runs.create(db, run))

    async def acquire(
        self,
        run_id: str,
        owner: str,
        *,
        invocation_id: str,
        lease: timedelta,
        seen: Seen | None = None,
        fingerprint: str | None = None,
    ) -> Ownership:
        wanted = Acquisition(run_id, owner, invocation_id, lease, seen, fingerprint)
        return await self._write(lambda db: self._runs.acquire(db, wanted))

    async def renew(self, ownership: Ownership, *, lease: timedelta, health: str | None = None) -> Renewal:
        return await self._write(lambda db: self._runs.renew(db, ownership, lease=lease, health=health))

    async def finish(self, ownership: Ownership, status: RunStatus, *, error: ErrorRecord | None = None) -> None:
        await self._write(lambda db: self._runs.finish(db, ownership, status=status, error=error))

    async def find(self, run_id: str) -> Run:
        return await self._read(lambda db: self._runs.find(db, run_id))

    async def list_runs(self, which: RunFilter) -> list[Run]:
        return await self._read(lambda db: self._runs.list_runs(db, which))

    async def request_cancel(self, run_id: str) -> Run:
        return await self._write(lambda db: self._runs.request_cancel(db, run_id))

    async def delete(self, run_id: str) -> None:
        await self._write(lambda db: self._runs.delete(db, run_id))

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self._write(lambda db: self._record.save_step(db, ownership, step))

    async def open_fan_out(self, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        return await self._write(lambda db: self._record.open_fan_out(db, ownership, row))

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        def recorded(db: Connection) -> int:
            first = self._record.record(db, ownership, rows)
            crashpoint("mid_commit")
            return first

        return await self._write(recorded)

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        await self._write(lambda db: self._record.record_inner(db, ownership, inner))

    async def record_losses(self, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        return await self._write(lambda db: self._record.record_losses(db, ownership, losses))

    async def load(self, run_id: str) -> CheckpointRecord | None:
        return await self._read(lambda db: self._view.load(db, run_id))

    async def seed(self, record: CheckpointRecord) -> None:
        rows = decompose(record)
        await self._write(lambda db: self._record.seed(db, self._runs, rows))

    async def steps(self, run_id: str) -> list[Step]:
        return await self._read(lambda db: self._view.steps(db, run_id))

    async def fan_outs(self, run_id: str) -> list[FanOutRow]:
        return await self._read(lambda db: self._view.fan_outs(db, run_id))

    def slots(self, run_id: str, fan_out: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[SlotRow]:
        async def read(piece: Piece) -> Read:
            return await self._read(lambda db: self._view.slots(db, run_id, fan_out, piece))

        return latest_in_pieces(read, Piece(after=(start, -1), stop=stop))

    def errors(self, run_id: str, fan_out: str) -> AsyncIterator[SlotRow]:
        async def read(piece: Piece) -> Read:
            return await self._read(lambda db: self._view.errors(db, run_id, fan_out, piece))

        return latest_in_pieces(read, Piece())

    async def tally(self, run_id: str, fan_out: str) -> Tally:
        return await self._read(lambda db: self._view.tally(db, run_id, fan_out))

    async def losses(self, run_id: str, fan_out: str) -> list[Loss]:
        return await self._read(lambda db: self._view.losses(db, run_id, fan_out))

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    async def _write(self, work: Work[T]) -> T:
        return await self._in_thread(self._writer, self._database.write, work)

    async def _read(self, work: Work[T]) -> T:
        return await self._in_thread(self._reader, self._database.read, work)

    async def _in_thread(self, thread: ThreadPoolExecutor, transaction: Callable[[Work[T]], T], work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, self._prepared, transaction, work)

    def _prepared(self, transaction: Callable[[Work[T]], T], work: Work[T]) -> T:
        with self._preparing:
            if not self._is_prepared:
                bring_up_to_date(self._database, self._namespace)
                self._is_prepared = True
        return transaction(work)

    def _close(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._database.close()
