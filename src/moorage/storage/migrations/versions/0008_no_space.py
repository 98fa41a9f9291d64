"""Projects wait for room on the machine's disk."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    with op.batch_alter_table("projects") as batch:
        batch.add_column(sa.Column("no_space_since_ms", sa.BigInteger(), nullable=True))
