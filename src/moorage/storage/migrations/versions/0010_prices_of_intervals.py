"""A run interval remembers the price it began with, for the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column(
        "run_intervals", sa.Column("monthly_price_micro_usd", sa.BigInteger(), nullable=True)
    )
