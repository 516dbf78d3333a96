"""Which node wrote a line, and in which try."""

import sqlalchemy as sa
from alembic import context, op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns to what instances put out."""
    op.add_column(_log(), sa.Column("inner_node", sa.Text))
    op.add_column(_log(), sa.Column("attempt", sa.Integer))


def downgrade() -> None:
    """Drop them with what they hold."""
    op.drop_column(_log(), "attempt")
    op.drop_column(_log(), "inner_node")


def _log() -> str:
    prefix = context.config.attributes["namespace"]
    return f"{prefix}_log"
