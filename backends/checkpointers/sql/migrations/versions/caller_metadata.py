"""What the caller says about a run."""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column to the runs."""
    op.add_column(_runs(), sa.Column("metadata", sa.Text))


def downgrade() -> None:
    """Drop it with what it holds."""
    op.drop_column(_runs(), "metadata")


def _runs() -> str:
    prefix = context.config.attributes["namespace"]
    return f"{prefix}_runs"
