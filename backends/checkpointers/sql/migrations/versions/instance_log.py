"""What instances put out."""

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    prefix = context.config.attributes["namespace"]
    op.create_table(
        f"{prefix}_log",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("indexes", sa.Text, nullable=False),
        sa.Column("idx", sa.Integer, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("stream", sa.String(8), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("level", sa.Text),
        sa.Column("logger", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("is_cut", sa.Boolean, nullable=False),
    )
    op.create_index(f"ix_{prefix}_log_run_id", f"{prefix}_log", ["run_id", "sequence"])
    op.create_index(f"ix_{prefix}_log_idx", f"{prefix}_log", ["run_id", "idx", "sequence"])


def downgrade() -> None:
    """Drop it with what it holds."""
    op.drop_table(f"{context.config.attributes['namespace']}_log")
