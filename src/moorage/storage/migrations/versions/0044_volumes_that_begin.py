"""Which version of a project was served when it was given its volume, and runs without it."""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("projects", sa.Column("volume_after", sa.Text(), nullable=True))
