"""New prices of projects that there are, and the months for which a project's first price holds."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("projects", sa.Column("months", sa.Integer(), nullable=True))
    op.create_table(
        "price_changes",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("ordered_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("before_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("after_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("look_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("applied_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_price_changes_project_id")
        ),
        sa.PrimaryKeyConstraint("project_id", "ordered_at_ms", name=op.f("pk_price_changes")),
    )
    op.create_index(op.f("ix_price_changes_look_at_ms"), "price_changes", ["look_at_ms"])
