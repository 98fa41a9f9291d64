"""Releases, configuration, sleep, domains, volumes, usage."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "domains",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("verified_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("checked_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("next_check_at_ms", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'verified')", name=op.f("ck_domains_status_known")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_domains_project_id")
        ),
        sa.PrimaryKeyConstraint("host", "project_id", name=op.f("pk_domains")),
    )
    with op.batch_alter_table("domains", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_domains_next_check_at_ms"), ["next_check_at_ms"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_domains_project_id"), ["project_id"], unique=False)
        batch_op.create_index(
            "uq_domains_verified",
            ["host"],
            unique=True,
            sqlite_where=sa.text("status = 'verified'"),
            postgresql_where=sa.text("status = 'verified'"),
        )

    op.create_table(
        "usage",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        sa.Column("cpu_ms", sa.BigInteger(), nullable=False),
        sa.Column("memory_byte_seconds", sa.BigInteger(), nullable=False),
        sa.Column("memory_peak_bytes", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("status_1xx", sa.BigInteger(), nullable=False),
        sa.Column("status_2xx", sa.BigInteger(), nullable=False),
        sa.Column("status_3xx", sa.BigInteger(), nullable=False),
        sa.Column("status_4xx", sa.BigInteger(), nullable=False),
        sa.Column("status_5xx", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_usage_project_id")),
        sa.PrimaryKeyConstraint("project_id", "hour_ms", name=op.f("pk_usage")),
    )
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_hour_ms"), ["hour_ms"], unique=False)

    op.create_table(
        "usage_counters",
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("cpu_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name=op.f("fk_usage_counters_deployment_id")
        ),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_usage_counters")),
    )
    op.create_table(
        "access_log_position",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_log_position")),
    )

    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("origin", sa.Text(), server_default="upload", nullable=False))
        batch_op.add_column(sa.Column("copy_of", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("health_path", sa.Text(), server_default="/", nullable=False))
        batch_op.add_column(sa.Column("variables", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("superseded_at_ms", sa.BigInteger(), nullable=True))
        batch_op.add_column(
            sa.Column("is_kept", sa.Boolean(), server_default=sa.true(), nullable=False)
        )
        batch_op.create_check_constraint(
            op.f("ck_deployments_origin_known"),
            "origin IN ('upload', 'rollback', 'configuration')",
        )

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wallet", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(
            sa.Column("builds", sa.Boolean(), server_default=sa.false(), nullable=False)
        )

    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.add_column(sa.Column("blocked_reason", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("asleep_since_ms", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("health_path", sa.Text(), server_default="/", nullable=False))
        batch_op.add_column(sa.Column("variables", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(
            sa.Column("volume", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.create_index(
            "ix_projects_blocked",
            ["id"],
            unique=False,
            sqlite_where=sa.text("blocked_reason IS NOT NULL"),
            postgresql_where=sa.text("blocked_reason IS NOT NULL"),
        )
    with op.batch_alter_table("wallets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("blocked_reason", sa.Text(), nullable=True))
    # What was served before this revision was removed when the next version took over.
    op.execute(
        "UPDATE deployments SET is_kept = false WHERE status IN ('failed', 'superseded', 'stopped')"
    )
