"""The hosts that may have certificates, and since when, so that new ones can be counted."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "certificates",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("first_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("asked_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_certificates")),
    )
    op.create_index(
        op.f("ix_certificates_wallet_first_at_ms"), "certificates", ["wallet", "first_at_ms"]
    )
