"""What a payment was used for, beside the row of its use, so that an audit finds what is missing."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("payments", sa.Column("used_for", sa.Text(), nullable=True))
