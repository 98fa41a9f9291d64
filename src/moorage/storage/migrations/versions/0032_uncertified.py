"""Projects that are served over plain HTTP, as no certificate could be had, and are not charged."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("projects", sa.Column("uncertified_since_ms", sa.BigInteger(), nullable=True))
