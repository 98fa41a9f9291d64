"""How long apps take to answer, and how long requests waited until one was started."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_COLUMNS = (
    *("held", "held_ms", "slowest_ms", "within_2_ms", "within_5_ms", "within_10_ms"),
    *("within_25_ms", "within_50_ms", "within_100_ms", "within_250_ms", "within_500_ms"),
    *("within_1000_ms", "within_2500_ms", "within_10000_ms", "beyond_10000_ms"),
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    for table in ("usage", "usage_spans"):
        for name in _COLUMNS:
            column = sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
            op.add_column(table, column)
