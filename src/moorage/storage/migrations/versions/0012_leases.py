"""Who may do a periodic duty, whose a job is, and who sends to a webhook just now."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.add_column("jobs", sa.Column("holder", sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "webhooks",
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column(
        "webhooks", sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0")
    )
