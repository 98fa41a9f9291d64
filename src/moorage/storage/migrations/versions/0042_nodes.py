"""How far each node was searched, and what our addresses held when the books last agreed."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "node_cursors",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "node", name=op.f("pk_node_cursors")),
    )
    op.create_table(
        "balance_marks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token_address", sa.Text(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("amount_atomic", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "token_address", name=op.f("pk_balance_marks")),
    )
