"""The runs by their end, so that the open ones and the latest are found among many."""

from alembic import context, op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the index."""
    prefix = context.config.attributes["namespace"]
    op.create_index(f"ix_{prefix}_runs_ended_at", f"{prefix}_runs", ["ended_at", "created_at"])


def downgrade() -> None:
    """Drop it."""
    prefix = context.config.attributes["namespace"]
    op.drop_index(f"ix_{prefix}_runs_ended_at", f"{prefix}_runs")
