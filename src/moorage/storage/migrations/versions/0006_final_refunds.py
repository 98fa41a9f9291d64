"""Refunds are final when their block is safe."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision.

    What was refunded so far is looked at once more: it may have been dropped from the chain.
    """
    with op.batch_alter_table("refunds") as table:
        table.add_column(
            sa.Column("finality", sa.Text(), server_default="provisional", nullable=False)
        )
        table.create_check_constraint(
            op.f("ck_refunds_finality_known"), "finality IN ('provisional', 'safe', 'finalized')"
        )
