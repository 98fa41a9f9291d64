"""An index of payments by their time: an operator's pages list the newest first."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_index("ix_payments_claimed_at_ms", "payments", ["claimed_at_ms"])
