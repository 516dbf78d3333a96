"""The runs in SQL: whose each is, and where it stands. Each method is one transaction's work."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Label,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from backends.checkpointers.sql.clock import Now, microseconds, to_number
from backends.checkpointers.sql.fence import owned
from backends.checkpointers.sql.insertion import insertion
from backends.checkpointers.sql.row import error_text, metadata_text, run_of, step_columns
from backends.checkpointers.sql.schema import Schema
from orchestrator.checkpoint.protocol import RunIsOver
from orchestrator.checkpoint.row import (
    Mark,
    NewRun,
    Ownership,
    Renewal,
    Run,
    RunFilter,
    RunOrder,
    RunStatus,
    Seen,
    Step,
)
from orchestrator.error_record import ErrorRecord
from orchestrator.errors import CheckpointNotFound, RunAmbiguous, RunExists, RunIsDriven

_OVER = tuple(status for status in RunStatus if status.is_over)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What `acquire` is asked for."""

    run_id: str
    owner: str
    invocation_id: str
    lease: timedelta
    seen: Seen | None = None
    fingerprint: str | None = None


class RunTable:
    """What a `RunStore` does, on a connection whose transaction somebody else ends."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._runs = schema.runs

    def create(self, connection: Connection, run: NewRun) -> Run:
        try:
            self._make(connection, run)
        except RunExists:
            kept = self.get(connection, run.run_id)
            if not run.is_kept_as(kept, self._first_state(connection, run.run_id)):
                raise
            return kept
        return self.get(connection, run.run_id)

    def _make(self, connection: Connection, run: NewRun) -> None:
        columns = {
            "run_id": run.run_id,
            "graph": run.graph,
            "fingerprint": run.fingerprint,
            "correlation_id": run.correlation_id,
            "invocation_id": run.run_id,
            "schema_version": run.schema_version,
            "code_version": run.code_version,
            "metadata": metadata_text(run.metadata),
        }
        number, now = self.insert(connection, columns)
        first = Step(
            position=0,
            namespace=(),
            node="",
            state=run.state,
            invocation_id=run.run_id,
            schema_version=run.schema_version,
        )
        connection.execute(insert(self._schema.steps).values(run=number, saved_at=now, **step_columns(first)))

    def _first_state(self, connection: Connection, run_id: str) -> str:
        steps = self._schema.steps
        is_first = and_(steps.c.run == self.number(connection, run_id), steps.c.position == 0)
        state: str = connection.execute(select(steps.c.state).where(is_first)).scalar_one()
        return state

    def insert(self, connection: Connection, columns: Mapping[str, Any]) -> tuple[int, int]:
        """A submitted run with an empty history; the answer is its number and the time.

        Raises:
            RunExists: a run of that id is kept.
        """
        columns = {"created_at": Now(), **columns}
        statement = insertion(connection, self._runs).on_conflict_do_nothing()
        values = {"status": RunStatus.SUBMITTED.value, "epoch": 0, "is_cancel_requested": False, **columns}
        returned = statement.values(values).returning(self._runs.c.id, self._runs.c.created_at)
        row = connection.execute(returned).one_or_none()
        if row is None:
            raise RunExists(columns["run_id"])
        self.begin_invocation(connection, row.id, columns["invocation_id"])
        return row.id, row.created_at

    def begin_invocation(self, connection: Connection, run: int, invocation_id: str) -> None:
        """Note that an invocation of the run has begun, so that the run is found by its id."""
        statement = insertion(connection, self._schema.invocations).on_conflict_do_nothing()
        connection.execute(statement.values(run=run, invocation_id=invocation_id, started_at=Now()))

    def acquire(self, connection: Connection, wanted: Acquisition) -> Ownership:
        runs = self._runs
        is_ours_already = and_(runs.c.owner == wanted.owner, runs.c.invocation_id == wanted.invocation_id)
        may_take = and_(runs.c.status.not_in(_OVER), or_(is_ours_already, self._is_free(wanted.seen)))
        statement = (
            update(runs)
            .where(runs.c.run_id == wanted.run_id, may_take)
            .values(
                status=RunStatus.RUNNING.value,
                epoch=runs.c.epoch + 1,
                owner=wanted.owner,
                lease_until=Now() + microseconds(wanted.lease),
                invocation_id=wanted.invocation_id,
                fingerprint=runs.c.fingerprint if wanted.fingerprint is None else wanted.fingerprint,
                is_cancel_requested=and_(runs.c.is_cancel_requested, runs.c.status != RunStatus.FAILED),
                ended_at=None,
                error=None,
                health=None,
            )
            .returning(runs.c.id, runs.c.epoch)
        )
        row = connection.execute(statement).one_or_none()
        if row is None:
            run = self.get(connection, wanted.run_id)
            if run.status.is_over:
                raise RunIsOver(run.run_id, run.status)
            raise RunIsDriven(run.run_id, run.owner or "another process")
        self.begin_invocation(connection, row.id, wanted.invocation_id)
        return Ownership(wanted.run_id, wanted.invocation_id, row.epoch)

    def renew(self, connection: Connection, ownership: Ownership, *, lease: timedelta, health: str | None) -> Renewal:
        runs = self._runs
        statement = (
            update(runs)
            .where(self._is_mine(ownership), runs.c.status == RunStatus.RUNNING)
            .values(lease_until=Now() + microseconds(lease), health=health)
            .returning(runs.c.is_cancel_requested)
        )
        row = connection.execute(statement).one_or_none()
        if row is None:
            # Given up already: there is no lease to extend, and no other owner either.
            run = owned(connection, self._schema, ownership).run
            row = connection.execute(select(runs.c.is_cancel_requested).where(runs.c.id == run)).one()
        return Renewal(is_cancel_requested=row.is_cancel_requested)

    def finish(
        self, connection: Connection, ownership: Ownership, *, status: RunStatus, error: ErrorRecord | None
    ) -> None:
        run = owned(connection, self._schema, ownership)
        runs, invocations = self._runs, self._schema.invocations
        ending = {"status": status.value, "error": error_text(error)}
        given_up = connection.execute(
            update(runs)
            .where(runs.c.id == run.run, runs.c.status == RunStatus.RUNNING)
            .values(**ending, ended_at=run.now if status.has_ended else None, lease_until=run.now, health=None)
            .returning(runs.c.id)
        ).one_or_none()
        if given_up is not None:
            is_this = and_(invocations.c.run == run.run, invocations.c.invocation_id == ownership.invocation_id)
            connection.execute(update(invocations).where(is_this).values(**ending, ended_at=run.now))

    def get(self, connection: Connection, run_id: str) -> Run:
        """The run of exactly this id.

        Raises:
            CheckpointNotFound: no such run.
        """
        row = connection.execute(self._select().where(self._runs.c.run_id == run_id)).one_or_none()
        if row is None:
            raise CheckpointNotFound(run_id)
        return run_of(row, is_live=bool(row.is_live))

    def number(self, connection: Connection, run_id: str) -> int | None:
        """What stands for the run in the other tables; None where there is none."""
        return connection.execute(select(self._runs.c.id).where(self._runs.c.run_id == run_id)).scalar_one_or_none()

    def find(self, connection: Connection, run_id: str) -> Run:
        # No id holds a NUL or half a character, and PostgreSQL would not even take the question.
        if not run_id or "\0" in run_id or not run_id.isprintable():
            raise CheckpointNotFound(run_id)
        if self.number(connection, run_id) is not None:
            return self.get(connection, run_id)
        by_invocation = self._run_ids_of_invocation(connection, run_id)
        if by_invocation:
            return self.get(connection, by_invocation[0])
        prefix = func.substr(self._runs.c.run_id, 1, len(run_id)) == run_id
        matches = connection.scalars(select(self._runs.c.run_id).where(prefix).order_by(self._runs.c.run_id)).all()
        if len(matches) > 1:
            raise RunAmbiguous(run_id, tuple(matches))
        return self.get(connection, matches[0] if matches else run_id)

    def list_runs(self, connection: Connection, which: RunFilter) -> list[Run]:
        runs = self._runs
        statement = self._select().order_by(*self._order(which)).limit(which.limit)
        if which.statuses:
            statement = statement.where(self._is_seen_as(which.statuses))
        if which.graphs:
            statement = statement.where(runs.c.graph.in_(which.graphs))
        if which.order is RunOrder.ENDED:
            statement = statement.where(runs.c.ended_at.is_not(None))
        elif which.is_of_open_ones:
            statement = statement.where(runs.c.ended_at.is_(None))
        if which.after is not None:
            statement = statement.where(self._is_behind(which.after, which.order))
        return [run_of(row, is_live=bool(row.is_live)) for row in connection.execute(statement)]

    def _is_seen_as(self, statuses: Set[RunStatus]) -> ColumnElement[bool]:
        """Whether a run has one of the statuses, by columns alone as far as can be: their values are counted ahead."""
        either = {RunStatus.RUNNING, RunStatus.ORPHANED}
        kept = self._runs.c.status
        if either <= statuses:
            return kept.in_([status.value for status in statuses - {RunStatus.ORPHANED}])
        others = kept.in_([status.value for status in statuses - either])
        if not either & statuses:
            return others
        is_driven = self._is_driven() if RunStatus.RUNNING in statuses else ~self._is_driven()
        return or_(others, and_(kept == RunStatus.RUNNING, is_driven))

    def _order(self, which: RunFilter) -> tuple[ColumnElement[Any], ...]:
        columns = self._runs.c
        match which.order:
            case RunOrder.NEWEST:
                return columns.created_at.desc(), columns.id.desc()
            case RunOrder.ENDED:
                return columns.ended_at, columns.run_id
            case RunOrder.OLDEST if which.is_of_open_ones:
                # None of them has an end; said so that PostgreSQL reads them from the index in this order.
                return columns.ended_at, columns.created_at, columns.run_id
            case RunOrder.OLDEST:
                return columns.created_at, columns.run_id

    def _is_behind(self, mark: Mark, order: RunOrder) -> ColumnElement[bool]:
        columns = self._runs.c
        column = columns.ended_at if order is RunOrder.ENDED else columns.created_at
        time = to_number(mark.time)
        return and_(column >= time, or_(column > time, columns.run_id > mark.run_id))

    def request_cancel(self, connection: Connection, run_id: str) -> Run:
        runs = self._runs
        is_open = and_(runs.c.run_id == run_id, runs.c.status.not_in(_OVER))
        connection.execute(update(runs).where(is_open).values(is_cancel_requested=true()))
        # The epoch rises where an owner may only be late, so that it cannot go on with a run that is over.
        epoch = case((runs.c.status == RunStatus.RUNNING, runs.c.epoch + 1), else_=runs.c.epoch)
        ending = {"status": RunStatus.CANCELLED.value, "epoch": epoch, "error": None, "health": None}
        connection.execute(update(runs).where(is_open, ~self._is_driven()).values(**ending, ended_at=Now()))
        return self.get(connection, run_id)

    def delete(self, connection: Connection, run_id: str) -> None:
        statement = delete(self._runs).where(self._runs.c.run_id == run_id).returning(self._runs.c.id)
        number = connection.execute(statement).scalar_one_or_none()
        if number is not None:
            for table in self._schema.parts:
                connection.execute(delete(table).where(table.c.run == number))
            self._delete_told(connection, run_id)

    def _delete_told(self, connection: Connection, run_id: str) -> None:
        """Delete what was told of a run while it went on, where that is kept in this database."""
        log, status, tags = self._schema.log, self._schema.status, self._schema.status_tag
        of_run = select(status.c.sequence).where(status.c.run_id == run_id)
        connection.execute(delete(tags).where(tags.c.sequence.in_(of_run)))
        connection.execute(delete(status).where(status.c.run_id == run_id))
        connection.execute(delete(log).where(log.c.run_id == run_id))

    def _run_ids_of_invocation(self, connection: Connection, invocation_id: str) -> list[str]:
        runs, invocations = self._runs, self._schema.invocations
        statement = select(runs.c.run_id).join(invocations, invocations.c.run == runs.c.id)
        statement = statement.where(invocations.c.invocation_id == invocation_id).order_by(runs.c.id.desc())
        return list(connection.scalars(statement))

    def _is_mine(self, ownership: Ownership) -> ColumnElement[bool]:
        return and_(self._runs.c.run_id == ownership.run_id, self._runs.c.epoch == ownership.epoch)

    def _is_free(self, seen: Seen | None) -> ColumnElement[bool]:
        """Whether a run is for anybody to take who saw it so."""
        if seen is None:
            return ~self._is_driven()
        is_unchanged = self._runs.c.epoch == seen.epoch
        return is_unchanged if seen.has_dead_owner else and_(is_unchanged, ~self._is_driven())

    def _is_driven(self) -> ColumnElement[bool]:
        is_live = func.coalesce(self._runs.c.lease_until, 0) > Now()
        return and_(self._runs.c.status == RunStatus.RUNNING, is_live)

    def _select(self) -> Select[Any]:
        is_live: Label[bool] = self._is_driven().label("is_live")
        return select(self._runs, is_live)
