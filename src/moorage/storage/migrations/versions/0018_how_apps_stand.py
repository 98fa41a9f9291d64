"""Which apps are down, and what each uses at this moment."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. The next looks find out how things stand."""
    op.add_column("projects", sa.Column("down_since_ms", sa.BigInteger(), nullable=True))
    for name in ("cpu_millis", "memory_bytes"):
        op.add_column("usage_counters", sa.Column(name, sa.BigInteger(), nullable=True))
