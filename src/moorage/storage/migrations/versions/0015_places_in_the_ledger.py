"""Entries have their place in the ledger as a column of their own, not as SQLite's row number."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. Only SQLite had entries before, and row numbers."""
    if op.get_context().dialect.name != "sqlite":
        op.drop_table("entries")
        _create("entries")
    else:
        _create("numbered_entries")
        op.execute(
            "INSERT INTO numbered_entries "
            "SELECT rowid, posting_id, account, amount_micro_usd FROM entries ORDER BY rowid"
        )
        op.drop_table("entries")
        op.rename_table("numbered_entries", "entries")
    op.create_index(op.f("ix_entries_account"), "entries", ["account"])


def _create(name: str) -> None:
    op.create_table(
        name,
        sa.Column(
            "place",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column("posting_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("amount_micro_usd", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["posting_id"], ["postings.id"], name=op.f("fk_entries_posting_id")
        ),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_entries")),
        sa.UniqueConstraint("posting_id", "account", name=op.f("uq_entries_posting_id_account")),
    )
