"""The addresses that ever were `pay_to` stay known, and each payment's own with it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision.

    Settlements tell what `pay_to` was so far; the rest of the payments went to one of the addresses
    known by the next start.
    """
    op.create_table(
        "recipients",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_recipients")),
    )
    op.execute(
        "INSERT INTO recipients (address, since_ms) "
        "SELECT recipient, min(created_at_ms) FROM settlements GROUP BY recipient"
    )
    op.add_column("payments", sa.Column("recipient", sa.Text(), nullable=True))
    op.execute(
        "UPDATE payments SET recipient = (SELECT settlements.recipient FROM settlements WHERE "
        "settlements.chain_id = payments.chain_id AND settlements.tx_hash = payments.tx_hash "
        "AND settlements.payer = payments.payer "
        "AND settlements.token_address = payments.token_address)"
    )
