"""What the owner of a run writes, in SQL. Each method is one transaction's work."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select, update

from backends.checkpointers.sql.clock import to_number, to_time
from backends.checkpointers.sql.fence import owned
from backends.checkpointers.sql.insertion import insertion
from backends.checkpointers.sql.row import (
    Columns,
    fan_out_columns,
    fan_out_of,
    loss_columns,
    of_run,
    slot_columns,
    step_columns,
)
from backends.checkpointers.sql.run_table import RunTable
from backends.checkpointers.sql.schema import Schema
from orchestrator.checkpoint.compose import RecordRows
from orchestrator.checkpoint.row import FanOutRow, InnerRows, Loss, Ownership, SlotRow, Step
from orchestrator.fan_out.fold import Fold
from orchestrator.identity import Slot

_SLOT_KEY = ("run", "fan_out", "idx", "generation")


class RecordTable:
    """What a `Checkpointer` writes, on a connection whose transaction somebody else ends."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def save_step(self, connection: Connection, ownership: Ownership, step: Step) -> None:
        run = owned(connection, self._schema, ownership)
        step = replace(step, invocation_id=step.invocation_id or ownership.invocation_id)
        steps = self._schema.steps
        saved = connection.execute(
            insertion(connection, steps)
            .values(run=run.run, saved_at=run.now, **step_columns(step))
            .on_conflict_do_nothing()
            .returning(steps.c.position)
        ).one_or_none()
        if saved is not None:
            self._set_folds(connection, run.run, step.folds)

    def open_fan_out(self, connection: Connection, ownership: Ownership, row: FanOutRow) -> FanOutRow:
        run = owned(connection, self._schema, ownership)
        fan_outs = self._schema.fan_outs
        entry = select(func.count()).where(fan_outs.c.run == run.run).scalar_subquery()
        opened = connection.execute(
            insertion(connection, fan_outs)
            .values(run=run.run, entry=entry, opened_at=run.now, **fan_out_columns(row))
            .on_conflict_do_nothing()
            .returning(fan_outs.c.fan_out)
        ).one_or_none()
        if opened is not None:
            return replace(row, opened_at=to_time(run.now), fold=None)
        is_it = and_(fan_outs.c.run == run.run, fan_outs.c.fan_out == row.id)
        return fan_out_of(connection.execute(select(fan_outs).where(is_it)).one())

    def record(self, connection: Connection, ownership: Ownership, rows: Sequence[SlotRow]) -> int:
        run = owned(connection, self._schema, ownership)
        errors = {row.report.slot: row for row in rows if not row.is_contribution}
        self._keep_errors(connection, of_run(run.run, map(slot_columns, errors.values()), recorded_at=run.now))
        plain = [row for row in rows if row.is_contribution and not row.report.folds]
        first = self._keep_first(connection, of_run(run.run, map(slot_columns, plain), recorded_at=run.now))
        for row in rows:
            if row.is_contribution and row.report.folds:
                is_first = self._keep_first(connection, of_run(run.run, [slot_columns(row)], recorded_at=run.now))
                self._set_folds(connection, run.run, row.report.folds if is_first else ())
                first += is_first
        return first

    def record_inner(self, connection: Connection, ownership: Ownership, inner: InnerRows) -> None:
        for row in inner.fan_outs:
            self.open_fan_out(connection, ownership, row)
        for step in inner.steps:
            self.save_step(connection, ownership, step)
        self.record(connection, ownership, inner.slots)

    def record_losses(self, connection: Connection, ownership: Ownership, losses: Sequence[Loss]) -> dict[Slot, int]:
        run = owned(connection, self._schema, ownership)
        _keep(connection, self._schema.losses, of_run(run.run, map(loss_columns, losses)))
        return {slot: self._charged(connection, run.run, slot) for slot in {loss.slot for loss in losses}}

    def seed(self, connection: Connection, runs: RunTable, rows: RecordRows) -> None:
        """Keep these rows as a run that nobody owns."""
        run, _ = runs.insert(
            connection,
            {
                "run_id": rows.run.run_id,
                "graph": rows.run.graph,
                "fingerprint": rows.run.fingerprint,
                "correlation_id": rows.run.correlation_id,
                "invocation_id": rows.run.invocation_id,
                "created_at": to_number(rows.run.created_at),
                "schema_version": rows.run.schema_version,
            },
        )
        runs.begin_invocation(connection, run, rows.run.run_id)
        saved_at = to_number(rows.run.created_at)
        fan_outs: list[Columns] = [{"entry": entry, **fan_out_columns(row)} for entry, row in enumerate(rows.fan_outs)]
        _keep(connection, self._schema.steps, of_run(run, map(step_columns, rows.steps), saved_at=saved_at))
        _keep(connection, self._schema.fan_outs, of_run(run, fan_outs, opened_at=saved_at))
        _keep(connection, self._schema.slots, of_run(run, map(slot_columns, rows.slots), recorded_at=saved_at))
        self._keep_errors(connection, of_run(run, map(slot_columns, rows.errors), recorded_at=saved_at))

    def _keep_first(self, connection: Connection, rows: Sequence[Columns]) -> int:
        return _keep(connection, self._schema.slots, rows)

    def _keep_errors(self, connection: Connection, rows: Sequence[Columns]) -> None:
        if rows:
            statement = insertion(connection, self._schema.slot_errors)
            latest = {name: statement.excluded[name] for name in rows[0] if name not in _SLOT_KEY}
            connection.execute(statement.on_conflict_do_update(index_elements=_SLOT_KEY, set_=latest), rows)

    def _set_folds(self, connection: Connection, run: int, folds: Iterable[Fold]) -> None:
        fan_outs = self._schema.fan_outs
        for fold in folds:
            is_it = and_(fan_outs.c.run == run, fan_outs.c.fan_out == fold.fan_out)
            connection.execute(update(fan_outs).where(is_it).values(fold_count=fold.count, fold_hash=fold.hash))

    def _charged(self, connection: Connection, run: int, slot: Slot) -> int:
        losses = self._schema.losses
        is_of_slot = and_(
            losses.c.run == run,
            losses.c.fan_out == slot.fan_out,
            losses.c.idx == slot.index,
            losses.c.generation == slot.generation,
        )
        charged = select(func.count()).select_from(losses).where(is_of_slot, losses.c.is_charged)
        return connection.execute(charged).scalar_one()


def _keep(connection: Connection, table: Table, rows: Sequence[Columns]) -> int:
    """Insert the rows whose key is not there yet, and say how many that were."""
    if not rows:
        return 0
    statement: Any = insertion(connection, table).on_conflict_do_nothing()
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount
