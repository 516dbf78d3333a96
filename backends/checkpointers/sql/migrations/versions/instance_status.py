"""What became of instances and nodes."""

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables."""
    prefix = context.config.attributes["namespace"]
    op.create_table(
        f"{prefix}_status",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("invocation_id", sa.Text, nullable=False),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("idx", sa.Integer),
        sa.Column("key", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("duration_seconds", sa.Float),
        sa.Column("error_category", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("error_message", sa.Text),
    )
    op.create_index(f"ix_{prefix}_status_run_id", f"{prefix}_status", ["run_id", "sequence"])
    op.create_table(
        f"{prefix}_status_tag",
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("sequence", "name", name=f"pk_{prefix}_status_tag"),
        sqlite_with_rowid=False,
    )
    op.create_index(f"ix_{prefix}_status_tag_name", f"{prefix}_status_tag", ["name", "value"])


def downgrade() -> None:
    """Drop them with what they hold."""
    prefix = context.config.attributes["namespace"]
    op.drop_table(f"{prefix}_status_tag")
    op.drop_table(f"{prefix}_status")
