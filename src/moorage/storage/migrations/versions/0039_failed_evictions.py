"""Why an ordered deletion could not be carried out when it was last tried."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("evictions", sa.Column("failed_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("evictions", sa.Column("failure", sa.Text(), nullable=True))
    op.add_column("evictions", sa.Column("failed_due_ms", sa.BigInteger(), nullable=True))
