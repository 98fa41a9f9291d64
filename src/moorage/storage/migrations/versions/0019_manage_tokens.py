"""Tokens that manage one project."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "manage_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_manage_tokens_project_id")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_manage_tokens")),
    )
    op.create_index(
        op.f("ix_manage_tokens_project_id_created_at_ms"),
        "manage_tokens",
        ["project_id", "created_at_ms"],
    )
