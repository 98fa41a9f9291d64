"""What projects use in each five minutes of the last day."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_USED = (
    *("cpu_ms", "memory_byte_seconds", "memory_peak_bytes", "requests", "bytes_in"),
    *("bytes_out", "status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx"),
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "usage_spans",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("begins_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _USED),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_usage_spans_project_id")
        ),
        sa.PrimaryKeyConstraint("project_id", "begins_ms", name=op.f("pk_usage_spans")),
    )
    op.create_index("ix_usage_spans_begins_ms", "usage_spans", ["begins_ms"])
