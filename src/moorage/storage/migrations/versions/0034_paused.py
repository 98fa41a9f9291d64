"""Projects that their owner has paused."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("projects", sa.Column("paused_at_ms", sa.BigInteger(), nullable=True))
