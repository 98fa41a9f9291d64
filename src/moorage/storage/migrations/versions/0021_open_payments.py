"""The request that a payment came with whose payer nothing else names."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. Settlements so far came with signed requests."""
    op.add_column("settlements", sa.Column("open_body", sa.Text(), nullable=True))
