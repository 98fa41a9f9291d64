"""Projects that an operator has ordered to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "evictions",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_evictions_project_id")
        ),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_evictions")),
    )
    op.create_index(op.f("ix_evictions_at_ms"), "evictions", ["at_ms"])
