"""What is read of a record, in SQL. Each method is one transaction's work."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, exists, func, or_, select

from backends.checkpointers.sql.clock import to_optional_time
from backends.checkpointers.sql.piece import Piece, Read, latest
from backends.checkpointers.sql.row import fan_out_of, loss_of, slot_of, step_of
from backends.checkpointers.sql.run_table import RunTable
from backends.checkpointers.sql.schema import Schema
from orchestrator.checkpoint.compose import RecordRows, compose
from orchestrator.checkpoint.record import CheckpointRecord
from orchestrator.checkpoint.row import FanOutRow, Loss, Step, Tally


class RecordView:
    """What a `RecordReader` answers, on a connection whose transaction somebody else ends."""

    def __init__(self, schema: Schema, runs: RunTable) -> None:
        self._schema = schema
        self._runs = runs

    def load(self, connection: Connection, run_id: str) -> CheckpointRecord | None:
        number = self._runs.number(connection, run_id)
        if number is None:
            return None
        fan_outs = self.fan_outs(connection, run_id)
        unfolded = [row.id for row in fan_outs if row.fold is None]
        slots = [partial(self.slots, connection, run_id, fan_out) for fan_out in unfolded]
        errors = [partial(self.errors, connection, run_id, fan_out) for fan_out in unfolded]
        return compose(
            RecordRows(
                run=self._runs.get(connection, run_id),
                steps=self.steps(connection, run_id),
                fan_outs=fan_outs,
                slots=[row for read in slots for row in latest(read)],
                errors=[row for read in errors for row in latest(read)],
            )
        )

    def steps(self, connection: Connection, run_id: str) -> list[Step]:
        steps = self._schema.steps
        statement = select(steps).where(self._is_of(steps, run_id)).order_by(steps.c.position)
        return [step_of(row) for row in connection.execute(statement)]

    def fan_outs(self, connection: Connection, run_id: str) -> list[FanOutRow]:
        fan_outs = self._schema.fan_outs
        statement = select(fan_outs).where(self._is_of(fan_outs, run_id)).order_by(fan_outs.c.entry)
        return [fan_out_of(row) for row in connection.execute(statement)]

    def slots(self, connection: Connection, run_id: str, fan_out: str, piece: Piece) -> Read:
        """Contributions of every generation."""
        rows, following = self._read(connection, self._schema.slots, self._is_of_slots(run_id, fan_out), piece=piece)
        return Read([slot_of(row, is_contribution=True) for row in rows], following)

    def errors(self, connection: Connection, run_id: str, fan_out: str, piece: Piece) -> Read:
        """Error rows of every generation, unless a contribution supersedes them."""
        errors = self._schema.slot_errors
        rows, following = self._read(connection, errors, self._is_of(errors, run_id, fan_out), piece=piece)
        recorded = self._recorded(connection, run_id, fan_out, {row.idx for row in rows})
        open_ones = [row for row in rows if recorded.get(row.idx, -1) < row.generation]
        return Read([slot_of(row, is_contribution=False) for row in open_ones], following)

    def tally(self, connection: Connection, run_id: str, fan_out: str) -> Tally:
        groups = self._counted(
            connection, self._is_of_slots(run_id, fan_out), is_latest=self._schema.slots.c.generation >= 0
        )
        if any(group.generation for group in groups):
            is_latest = _is_latest(self._schema.slots)
            groups = self._counted(connection, self._is_of_slots(run_id, fan_out), is_latest=is_latest)
        losses = self._schema.losses
        lost = select(func.count()).select_from(losses).where(self._is_of(losses, run_id, fan_out))
        counts: dict[str, int] = {group.outcome: group.recorded for group in groups if group.is_latest}
        return Tally(
            fan_out=fan_out,
            **counts,
            deliveries=sum(int(group.deliveries) for group in groups if group.is_latest),
            losses=connection.execute(lost).scalar_one(),
            first_at=to_optional_time(min((group.first_at for group in groups), default=None)),
            last_at=to_optional_time(max((group.last_at for group in groups), default=None)),
        )

    def losses(self, connection: Connection, run_id: str, fan_out: str) -> list[Loss]:
        losses = self._schema.losses
        order = (losses.c.idx, losses.c.generation, losses.c.delivery)
        statement = select(losses).where(self._is_of(losses, run_id, fan_out)).order_by(*order)
        return [loss_of(row) for row in connection.execute(statement)]

    def _read(
        self, connection: Connection, table: Table, is_of: ColumnElement[bool], *, piece: Piece
    ) -> tuple[Sequence[Row[Any]], Piece | None]:
        index, generation = piece.after
        wanted = [is_of, table.c.idx >= index, or_(table.c.idx > index, table.c.generation > generation)]
        if piece.stop is not None:
            wanted.append(table.c.idx < piece.stop)
        # The key's own order and nothing cleverer: PostgreSQL may know nothing yet of a table that grows this fast.
        statement = select(table).where(*wanted).order_by(table.c.idx, table.c.generation).limit(piece.limit)
        rows = connection.execute(statement).all()
        return rows, None if len(rows) < piece.limit else replace(piece, after=(rows[-1].idx, rows[-1].generation))

    def _recorded(self, connection: Connection, run_id: str, fan_out: str, indexes: Iterable[int]) -> dict[int, int]:
        """The latest generation that has a contribution, of each of these indexes that has one."""
        slots = self._schema.slots
        wanted = and_(self._is_of_slots(run_id, fan_out), slots.c.idx.in_(list(indexes)))
        statement = (
            select(slots.c.idx, func.max(slots.c.generation).label("generation")).where(wanted).group_by(slots.c.idx)
        )
        return {row.idx: row.generation for row in connection.execute(statement)}

    def _counted(
        self, connection: Connection, is_of: ColumnElement[bool], *, is_latest: ColumnElement[bool]
    ) -> Sequence[Row[Any]]:
        slots = self._schema.slots
        labelled = is_latest.label("is_latest")
        statement = (
            select(
                slots.c.outcome,
                labelled,
                func.max(slots.c.generation).label("generation"),
                func.count().label("recorded"),
                func.sum(slots.c.delivery).label("deliveries"),
                func.min(slots.c.recorded_at).label("first_at"),
                func.max(slots.c.recorded_at).label("last_at"),
            )
            .where(is_of)
            .group_by(slots.c.outcome, labelled)
        )
        return connection.execute(statement).all()

    def _is_of_slots(self, run_id: str, fan_out: str) -> ColumnElement[bool]:
        return self._is_of(self._schema.slots, run_id, fan_out)

    def _is_of(self, table: Table, run_id: str, fan_out: str | None = None) -> ColumnElement[bool]:
        runs = self._schema.runs
        number = select(runs.c.id).where(runs.c.run_id == run_id).scalar_subquery()
        is_of_run = table.c.run == number
        return is_of_run if fan_out is None else and_(is_of_run, table.c.fan_out == fan_out)


def _is_latest(slots: Table) -> ColumnElement[bool]:
    later = slots.alias("later")
    return ~exists().where(
        later.c.run == slots.c.run,
        later.c.fan_out == slots.c.fan_out,
        later.c.idx == slots.c.idx,
        later.c.generation > slots.c.generation,
    )
