"""Evictions with an export are hidden from gateways that would delete without one."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("evictions", sa.Column("after_export_at_ms", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE evictions SET after_export_at_ms = at_ms, at_ms = 253370764800000 WHERE with_export"
    )
