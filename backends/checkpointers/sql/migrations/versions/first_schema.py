"""The first tables."""

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    prefix = context.config.attributes["namespace"]
    _runs(prefix)
    _invocations(prefix)
    _steps(prefix)
    _fan_outs(prefix)
    _slots(f"{prefix}_slots")
    _slots(f"{prefix}_slot_errors")
    _losses(prefix)


def downgrade() -> None:
    """Drop them with all they hold."""
    prefix = context.config.attributes["namespace"]
    for name in ("losses", "slot_errors", "slots", "fan_outs", "steps", "invocations", "runs"):
        op.drop_table(f"{prefix}_{name}")


def _runs(prefix: str) -> None:
    op.create_table(
        f"{prefix}_runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("graph", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("schema_version", sa.Text, nullable=False),
        sa.Column("code_version", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("is_cancel_requested", sa.Boolean, nullable=False),
        sa.Column("health", sa.Text),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("run_id", name=f"uq_{prefix}_runs_run_id"),
    )
    op.create_index(f"ix_{prefix}_runs_created_at", f"{prefix}_runs", ["created_at"])


def _invocations(prefix: str) -> None:
    op.create_table(
        f"{prefix}_invocations",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("status", sa.String(16)),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("run", "invocation_id", name=f"pk_{prefix}_invocations"),
    )
    op.create_index(f"ix_{prefix}_invocations_id", f"{prefix}_invocations", ["invocation_id"])


def _steps(prefix: str) -> None:
    op.create_table(
        f"{prefix}_steps",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("attempt_index", sa.Integer, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("schema_version", sa.Text, nullable=False),
        sa.Column("folds", sa.Text),
        sa.Column("saved_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run", "position", name=f"pk_{prefix}_steps"),
    )


def _fan_outs(prefix: str) -> None:
    op.create_table(
        f"{prefix}_fan_outs",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("fan_out", sa.String(16), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("instance_count", sa.Integer, nullable=False),
        sa.Column("item_hashes", sa.LargeBinary, nullable=False),
        sa.Column("item_keys", sa.Text),
        sa.Column("item_tags", sa.Text),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("fold_count", sa.Integer),
        sa.Column("fold_hash", sa.String(32)),
        sa.PrimaryKeyConstraint("run", "fan_out", name=f"pk_{prefix}_fan_outs"),
    )


def _slots(name: str) -> None:
    op.create_table(
        name,
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("fan_out", sa.String(16), nullable=False),
        sa.Column("idx", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("code_version", sa.Text),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("duration_seconds", sa.Float, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("partial", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("folds", sa.Text),
        sa.PrimaryKeyConstraint("run", "fan_out", "idx", "generation", name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )


def _losses(prefix: str) -> None:
    op.create_table(
        f"{prefix}_losses",
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("fan_out", sa.String(16), nullable=False),
        sa.Column("idx", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("is_charged", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("run", "fan_out", "idx", "generation", "delivery", name=f"pk_{prefix}_losses"),
        sqlite_with_rowid=False,
    )
