"""Certificates that the gateway orders itself: keys, orders, challenges and accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    for name in ("chain", "sealed_key", "pem_sha256", "authority"):
        op.add_column("certificates", sa.Column(name, sa.Text(), nullable=True))
    times = ("not_before_ms", "not_after_ms", "order_at_ms", "ordered_until_ms", "ordered_at_ms")
    for name in times:
        op.add_column("certificates", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in ("fence", "failures"):
        column = sa.Column(name, sa.Integer(), server_default="0", nullable=False)
        op.add_column("certificates", column)
    problem = sa.Column("problem", sa.Text(), server_default="", nullable=False)
    op.add_column("certificates", problem)
    for name in ("order_at_ms", "not_after_ms", "ordered_at_ms"):
        op.create_index(op.f(f"ix_certificates_{name}"), "certificates", [name])
    op.create_table(
        "acme_challenges",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_acme_challenges")),
    )
    op.create_table(
        "authorities",
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("directory", name=op.f("pk_authorities")),
    )
