"""Credits that one project lives from, apart from its wallet's."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "purses",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("balance_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("warned_hours", sa.Integer(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_purses")),
    )
    op.create_index(op.f("ix_purses_wallet"), "purses", ["wallet"])
    op.add_column("payments", sa.Column("purse", sa.Text(), nullable=True))
    op.add_column("settlements", sa.Column("purse", sa.Text(), nullable=True))
