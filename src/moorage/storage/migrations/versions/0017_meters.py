"""Each gateway notes its own billed time."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. The one reading there was is of no gateway by name."""
    op.create_table(
        "meters",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("billed_ms", sa.BigInteger(), nullable=False),
        sa.Column("monotonic_ms", sa.BigInteger(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", name=op.f("pk_meters")),
    )
    op.execute(
        "INSERT INTO meters (gateway, billed_ms, monotonic_ms, boot_id) "
        "SELECT '', billed_ms, monotonic_ms, boot_id FROM meter"
    )
    op.drop_table("meter")
