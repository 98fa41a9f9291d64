"""Crash loops are remembered over restarts of the gateway."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "restarts",
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("history", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name=op.f("fk_restarts_deployment_id")
        ),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_restarts")),
    )
