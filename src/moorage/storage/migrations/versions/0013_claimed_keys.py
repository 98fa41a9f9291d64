"""Who carries out a request with an Idempotency-Key, and what it did, beside its answer."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision. Answers that were given so far are repeated as they are."""
    for name, kind, default in (
        ("claim_id", sa.Text(), ""),
        ("lease_until_ms", sa.BigInteger(), "0"),
        ("outcome", sa.Text(), ""),
    ):
        op.add_column(
            "idempotent_answers", sa.Column(name, kind, nullable=False, server_default=default)
        )
