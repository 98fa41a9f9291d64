"""A promised price is prolonged for payments of a real size, and not for ever."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. What was promised so far lasts as long as its quote."""
    for name in ("promised_at_ms", "counted_micro_usd"):
        op.add_column(
            "quotes", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
