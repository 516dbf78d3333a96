"""The epoch check that stands in every write."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from backends.checkpointers.sql.clock import Now
from backends.checkpointers.sql.schema import Schema
from orchestrator.checkpoint.row import Ownership
from orchestrator.errors import Fenced


@dataclass(frozen=True, slots=True)
class Owned:
    """A run under its owner's epoch: its number in the tables, and the database's time."""

    run: int
    now: int


def owned(connection: Connection, schema: Schema, ownership: Ownership) -> Owned:
    """The run, which nobody else can acquire until this transaction ends.

    Raises:
        Fenced: another orchestrator owns the run.
    """
    runs = schema.runs
    statement = (
        select(runs.c.id, Now().label("now"))
        .where(runs.c.run_id == ownership.run_id, runs.c.epoch == ownership.epoch)
        .with_for_update(read=True)
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise Fenced(ownership.run_id, ownership.epoch)
    return Owned(row.id, row.now)
