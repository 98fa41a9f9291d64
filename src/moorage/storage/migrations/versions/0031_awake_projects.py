"""An index of projects that run: a deploy counts them before anybody pays."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_index(
        "ix_projects_awake",
        "projects",
        ["status"],
        sqlite_where=sa.text("deleted_at_ms IS NULL AND asleep_since_ms IS NULL"),
        postgresql_where=sa.text("deleted_at_ms IS NULL AND asleep_since_ms IS NULL"),
    )
