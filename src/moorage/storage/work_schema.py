"""The tables of work beside an app: what is billed by its time, runs, and schedules."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from moorage.storage.metadata import metadata, one_of, partial_index

work = Table(
    "work",
    metadata,
    # What is billed by its time beside an app: an attempt to build a deployment, or a run.
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    # That is built, or whose files a run has.
    Column("deployment_id", Text, ForeignKey("deployments.id"), nullable=False),
    Column("kind", Text, nullable=False, server_default="build"),
    Column("acted_by", Text, nullable=False, server_default=""),  # as a deployment's
    Column("monthly_price_micro_usd", BigInteger, nullable=False),  # of a month of it
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ran_ms", BigInteger, nullable=False),
    Column("billed_ms", BigInteger, nullable=False),  # the part beyond the wallet's allowance
    Column("charged_micro_usd", BigInteger, nullable=False),
    one_of("kind", "build", "run"),
    Index(None, "wallet"),
)

runs = Table(
    "runs",
    metadata,
    # A command that runs once beside a project's app, or a request to it, and how it ended.
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("wallet", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("command", Text, nullable=False, server_default=""),
    Column("path", Text, nullable=False, server_default=""),
    Column("size", Text, nullable=False, server_default=""),
    Column("timeout_seconds", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    # The deployment whose files it has, that served as it began; null while it is queued.
    Column("deployment_id", Text, ForeignKey("deployments.id")),
    # The next two are null unless a schedule made it.
    Column("schedule", Text),  # its name
    Column("due_at_ms", BigInteger),
    # Due times for which it stands, that were passed more than a minute before.
    Column("missed", Integer, nullable=False, server_default="0"),
    Column("exit_code", Integer),  # or the status that a request was answered with
    Column("reason", Text, nullable=False, server_default=""),  # why it did not succeed
    # When its command was started. Null while it is prepared: that may be done again.
    Column("started_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("acted_by", Text, nullable=False, server_default=""),  # as a deployment's
    Column("is_kept", Boolean, nullable=False, server_default=false()),  # whether its log is
    # Whether an engine may have more of it than its log.
    Column("holds", Boolean, nullable=False, server_default=false()),
    one_of("kind", "command", "request"),
    one_of(
        "status",
        "queued",
        "running",
        "succeeded",
        "failed",
        "timed_out",
        "cancelled",
        "interrupted",
        "skipped",
    ),
    UniqueConstraint("project_id", "schedule", "due_at_ms"),  # no due time runs twice
    Index(None, "project_id", "created_at_ms"),
    partial_index("ix_runs_queued", "wallet", "created_at_ms", where="status = 'queued'"),
    partial_index("ix_runs_running", "id", where="status = 'running' OR holds"),
    partial_index("ix_runs_kept", "project_id", where="is_kept"),
)

schedules = Table(
    "schedules",
    metadata,
    # What the serving version of a project has run by the clock.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("command", Text, nullable=False),  # "" where it is a request to a path
    Column("path", Text, nullable=False),
    Column("timeout_seconds", Integer, nullable=False),
    Column("next_due_at_ms", BigInteger, nullable=False),
    # Its project could not run when it was due: what passes until it can is told, and not made up.
    Column("is_held", Boolean, nullable=False, server_default=false()),
    Index(None, "next_due_at_ms"),
)
