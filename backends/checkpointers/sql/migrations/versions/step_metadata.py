"""What nodes had written beside the state, with each step."""

import sqlalchemy as sa
from alembic import context, op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column to the steps."""
    op.add_column(_steps(), sa.Column("metadata", sa.Text))


def downgrade() -> None:
    """Drop it with what it holds."""
    op.drop_column(_steps(), "metadata")


def _steps() -> str:
    prefix = context.config.attributes["namespace"]
    return f"{prefix}_steps"
