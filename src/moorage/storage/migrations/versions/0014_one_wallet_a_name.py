"""A name is one wallet's by a key of its own, and a project has one deployment under way."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_UNDER_WAY = sa.text("status IN ('queued', 'building', 'deploying')")


def upgrade() -> None:
    """Bring the schema to this revision. Projects have their names; quotes hold theirs on."""
    op.create_table(
        "names",
        sa.Column("unique_name", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("held_until_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("unique_name", name=op.f("pk_names")),
    )
    op.create_index(op.f("ix_names_wallet_held_until_ms"), "names", ["wallet", "held_until_ms"])
    op.execute(
        "INSERT INTO names (unique_name, wallet, held_until_ms) "
        "SELECT unique_name, wallet, NULL FROM projects WHERE deleted_at_ms IS NULL"
    )
    op.execute(
        "INSERT INTO names (unique_name, wallet, held_until_ms) "
        "SELECT unique_name, min(wallet), expires_at_ms FROM quotes "
        "WHERE expires_at_ms = (SELECT max(later.expires_at_ms) FROM quotes AS later "
        "WHERE later.unique_name = quotes.unique_name) "
        "AND unique_name NOT IN (SELECT unique_name FROM names) "
        "GROUP BY unique_name, expires_at_ms"
    )
    op.create_index(
        "uq_deployments_under_way",
        "deployments",
        ["project_id"],
        unique=True,
        sqlite_where=_UNDER_WAY,
        postgresql_where=_UNDER_WAY,
    )
