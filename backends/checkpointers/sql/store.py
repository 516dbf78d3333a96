"""A checkpoint store on SQLite or PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from backends.checkpointers.sql.piece import Piece, Read, latest_in_pieces
from backends.checkpointers.sql.record_table import RecordTable
from backends.checkpointers.sql.record_view import RecordView
from backends.checkpointers.sql.run_table import Acquisition, RunTable
from backends.checkpointers.sql.schema import schema
from backends.checkpointers.sql.threads import DatabaseThreads
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


class SqlStore:
    """A `CheckpointStore` in the tables of one namespace, for any number of event loops.

    Nothing is connected before the first call, which also brings the tables to this version. All writes go through
    one thread with one connection, all reads through another. A SQLite file and its folder are made where they are
    absent, for their owner's eyes alone.
    """

    def __init__(self, url: str, *, namespace: str) -> None:
        tables = schema(namespace)
        self._threads = DatabaseThreads(url, namespace=namespace, name="checkpoint")
        self._runs = RunTable(tables)
        self._record = RecordTable(tables)
        self._view = RecordView(tables, self._runs)

    async def create(self, run: NewRun) -> Run:
        return await self._threads.write(lambda db: self._runs.create(db, run))

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
        return await self._threads.write(lambda db: self._runs.acquire(db, wanted))

    async def renew(self, ownership: Ownership, *, lease: timedelta, health: str | None = None) -> Renewal:
        return await self._threads.write(lambda db: self._runs.renew(db, ownership, lease=lease, health=health))

    async def finish(self, ownership: Ownership, status: RunStatus, *, error: ErrorRecord | None = None) -> None:
        await self._threads.write(lambda db: self._runs.finish(db, ownership, status=status, error=error))

    async def find(self, run_id: str) -> Run:
        return await self._threads.read(lambda db: self._runs.find(db, run_id))

    async def list_runs(self, which: RunFilter) -> list[Run]:
        return await self._threads.read(lambda db: self._runs.list_runs(db, which))

    async def request_cancel(self, run_id: str) -> Run:
        return await self._threads.write(lambda db: self._runs.request_cancel(db, run_id))

    async def delete(self, run_id: str) -> None:
        await self._threads.write(lambda db: self._runs.delete(db, run_id))

    async def save_step(self, ownership: Ownership, step: Step) -> None:
        await self._threads.write(lambda db: self._record.save_step(db, ownership, step))

    async def open_fan_out(self, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        return await self._threads.write(lambda db: self._record.open_fan_out(db, ownership, row))

    async def record(self, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        def recorded(db: Connection) -> int:
            first = self._record.record(db, ownership, rows)
            crashpoint("mid_commit")
            return first

        return await self._threads.write(recorded)

    async def record_inner(self, ownership: Ownership, inner: InnerRows) -> None:
        await self._threads.write(lambda db: self._record.record_inner(db, ownership, inner))

    async def record_losses(self, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        return await self._threads.write(lambda db: self._record.record_losses(db, ownership, losses))

    async def load(self, run_id: str) -> CheckpointRecord | None:
        return await self._threads.read(lambda db: self._view.load(db, run_id))

    async def seed(self, record: CheckpointRecord) -> None:
        rows = decompose(record)
        await self._threads.write(lambda db: self._record.seed(db, self._runs, rows))

    async def steps(self, run_id: str) -> list[Step]:
        return await self._threads.read(lambda db: self._view.steps(db, run_id))

    async def fan_outs(self, run_id: str) -> list[FanOutRow]:
        return await self._threads.read(lambda db: self._view.fan_outs(db, run_id))

    def slots(self, run_id: str, fan_out: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[SlotRow]:
        async def read(piece: Piece) -> Read:
            return await self._threads.read(lambda db: self._view.slots(db, run_id, fan_out, piece))

        return latest_in_pieces(read, Piece(after=(start, -1), stop=stop))

    def errors(self, run_id: str, fan_out: str) -> AsyncIterator[SlotRow]:
        async def read(piece: Piece) -> Read:
            return await self._threads.read(lambda db: self._view.errors(db, run_id, fan_out, piece))

        return latest_in_pieces(read, Piece())

    async def tally(self, run_id: str, fan_out: str) -> Tally:
        return await self._threads.read(lambda db: self._view.tally(db, run_id, fan_out))

    async def losses(self, run_id: str, fan_out: str) -> list[Loss]:
        return await self._threads.read(lambda db: self._view.losses(db, run_id, fan_out))

    async def close(self) -> None:
        await self._threads.close()
