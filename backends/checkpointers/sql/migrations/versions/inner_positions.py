"""How far an instance came that did not succeed."""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column to both tables of reports."""
    for name in _tables():
        op.add_column(name, sa.Column("positions", sa.Text))


def downgrade() -> None:
    """Drop it with what it holds."""
    for name in _tables():
        op.drop_column(name, "positions")


def _tables() -> tuple[str, str]:
    prefix = context.config.attributes["namespace"]
    return f"{prefix}_slots", f"{prefix}_slot_errors"
