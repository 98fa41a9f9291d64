"""What operators tell all customers, and what they allow single wallets."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "notices",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_notices")),
    )
    op.create_table(
        "wallet_rules",
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("is_listed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("max_projects", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("wallet", name=op.f("pk_wallet_rules")),
    )
