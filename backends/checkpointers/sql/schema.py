"""The tables of a checkpoint store; `migrations` brings a database there."""

import re
from dataclasses import dataclass
from functools import cache

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from backends.status.log_table import log_table
from backends.status.status_table import status_table, status_tag_table
from orchestrator.errors import CallerError

_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one namespace. Times are microseconds since 1970, of the database's clock."""

    metadata: MetaData
    runs: Table
    invocations: Table
    steps: Table
    fan_outs: Table
    slots: Table
    slot_errors: Table
    losses: Table
    log: Table
    status: Table
    status_tag: Table

    @property
    def parts(self) -> tuple[Table, ...]:
        """What belongs to a run by its `run` column."""
        return (self.invocations, self.steps, self.fan_outs, self.slots, self.slot_errors, self.losses)


def version_table(namespace: str) -> str:
    """Where alembic keeps the revision of this namespace's tables."""
    return f"{checked(namespace)}_schema"


def checked(namespace: str) -> str:
    """The namespace, if it can be the prefix of a table's name.

    Raises:
        CallerError: it cannot.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise CallerError(
            f"{namespace!r} cannot prefix tables; set ROLLFORWARD_NAMESPACE to a letter or an underscore, followed by "
            "at most 40 letters, digits or underscores"
        )
    return namespace


@cache
def schema(namespace: str) -> Schema:
    """The tables whose names begin with this namespace."""
    metadata = MetaData()
    prefix = checked(namespace)
    return Schema(
        metadata=metadata,
        runs=_runs(metadata, prefix),
        invocations=_invocations(metadata, prefix),
        steps=_steps(metadata, prefix),
        fan_outs=_fan_outs(metadata, prefix),
        slots=_slots(metadata, f"{prefix}_slots"),
        slot_errors=_slots(metadata, f"{prefix}_slot_errors"),
        losses=_losses(metadata, prefix),
        log=log_table(metadata, prefix),
        status=status_table(metadata, prefix),
        status_tag=status_tag_table(metadata, prefix),
    )


def _runs(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}_runs",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("run_id", Text, nullable=False),
        Column("graph", Text, nullable=False),
        Column("fingerprint", Text, nullable=False),
        Column("correlation_id", Text, nullable=False),
        Column("status", String(16), nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("schema_version", Text, nullable=False),
        Column("code_version", Text),
        Column("owner", Text),
        Column("lease_until", BigInteger),
        Column("ended_at", BigInteger),
        Column("is_cancel_requested", Boolean, nullable=False),
        Column("health", Text),
        Column("error", Text),
        Column("metadata", Text),
        UniqueConstraint("run_id", name=f"uq_{prefix}_runs_run_id"),
        Index(f"ix_{prefix}_runs_created_at", "created_at"),
        # The open ones by age, which have no end, and the others by their end.
        Index(f"ix_{prefix}_runs_ended_at", "ended_at", "created_at"),
    )


def _invocations(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}_invocations",
        metadata,
        Column("run", Integer, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("started_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("status", String(16)),
        Column("error", Text),
        PrimaryKeyConstraint("run", "invocation_id", name=f"pk_{prefix}_invocations"),
        Index(f"ix_{prefix}_invocations_id", "invocation_id"),
    )


def _steps(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}_steps",
        metadata,
        Column("run", Integer, nullable=False),
        Column("position", Integer, nullable=False),
        Column("namespace", Text, nullable=False),
        Column("node", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("step", Integer, nullable=False),
        Column("attempt_index", Integer, nullable=False),
        Column("lineage", Text, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("schema_version", Text, nullable=False),
        Column("folds", Text),
        Column("saved_at", BigInteger, nullable=False),
        Column("metadata", Text),
        PrimaryKeyConstraint("run", "position", name=f"pk_{prefix}_steps"),
    )


def _fan_outs(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}_fan_outs",
        metadata,
        Column("run", Integer, nullable=False),
        Column("fan_out", String(16), nullable=False),
        Column("entry", Integer, nullable=False),
        Column("key", Text, nullable=False),
        Column("position", Integer, nullable=False),
        Column("instance_count", Integer, nullable=False),
        Column("item_hashes", LargeBinary, nullable=False),
        Column("item_keys", Text),
        Column("item_tags", Text),
        Column("opened_at", BigInteger, nullable=False),
        Column("fold_count", Integer),
        Column("fold_hash", String(32)),
        PrimaryKeyConstraint("run", "fan_out", name=f"pk_{prefix}_fan_outs"),
    )


def _slots(metadata: MetaData, name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("run", Integer, nullable=False),
        Column("fan_out", String(16), nullable=False),
        Column("idx", Integer, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("outcome", String(16), nullable=False),
        Column("delivery", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("token", Text, nullable=False),
        Column("worker", Text, nullable=False),
        Column("invocation_id", Text, nullable=False),
        Column("code_version", Text),
        Column("started_at", BigInteger, nullable=False),
        Column("duration_seconds", Float, nullable=False),
        Column("recorded_at", BigInteger, nullable=False),
        Column("key", Text),
        Column("partial", Text),
        Column("error", Text),
        Column("folds", Text),
        Column("positions", Text),
        PrimaryKeyConstraint("run", "fan_out", "idx", "generation", name=f"pk_{name}"),
        # One B-tree instead of a table and its index: one page written an instance, and rows lie in index order.
        sqlite_with_rowid=False,
    )


def _losses(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}_losses",
        metadata,
        Column("run", Integer, nullable=False),
        Column("fan_out", String(16), nullable=False),
        Column("idx", Integer, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("delivery", Integer, nullable=False),
        Column("worker", Text, nullable=False),
        Column("is_charged", Boolean, nullable=False),
        PrimaryKeyConstraint("run", "fan_out", "idx", "generation", "delivery", name=f"pk_{prefix}_losses"),
        sqlite_with_rowid=False,
    )
