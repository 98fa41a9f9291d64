"""A nonce is one subject's, by a key; a webhook's claim says whose it is."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("webhooks", sa.Column("holder", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "relay_nonces",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "sender", "nonce", name=op.f("pk_relay_nonces")),
    )
    op.execute(
        "INSERT INTO relay_nonces (chain_id, sender, nonce, subject_id) "
        "SELECT chain_id, sender, nonce, min(subject_id) FROM relay_transactions "
        "GROUP BY chain_id, sender, nonce"
    )
