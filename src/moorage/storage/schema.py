"""Every table, once, for SQLite and PostgreSQL alike.

Times are Unix milliseconds (`_ms`). Money is micro-USD or a token's atomic units. Wallets and
token addresses are lower-case hex with 0x. Status columns hold the values of the enums in
`deploy.project`, `deploy.deployment` and `deploy.job`; a test compares them.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _status(name: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{name} IN ({listed})", name=f"{name}_known")


wallets = Table(
    "wallets",
    metadata,
    Column("address", Text, primary_key=True),
    # The cached sum of the wallet's ledger entries; changes only in the transaction of an entry.
    Column("balance_micro_usd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    CheckConstraint("balance_micro_usd >= 0", name="balance_not_negative"),
)

postings = Table(
    "postings",
    metadata,
    # Names the event, so that it is booked once: "payment:42161:0x…:3", "burn:<interval>:<hour>".
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("posting_id", Text, ForeignKey("postings.id"), primary_key=True),
    # "wallet:0x…", "received:<chain_id>:<token>", "earned", "refunded"
    Column("account", Text, primary_key=True),
    Column("amount_micro_usd", BigInteger, nullable=False),  # a posting's amounts sum to zero
    Index(None, "account"),
)

payments = Table(
    "payments",
    metadata,
    # What makes a transfer creditable once: this key, inserted in the crediting transaction.
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("log_index", Integer, primary_key=True),
    Column("payer", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("token_address", Text, nullable=False),
    Column("amount_atomic", Text, nullable=False),  # decimal: with 18 decimals, 64 bits are $9
    Column("credited_micro_usd", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("claimed_at_ms", BigInteger, nullable=False),
    Index(None, "payer"),
)

payment_uses = Table(
    "payment_uses",
    metadata,
    # The one deployment that a transaction paid for; for each of those who paid in it.
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("wallet", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("deployment_id", Text, nullable=False),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),  # held for the wallet until the quote expires
    Column("months", Integer, nullable=False),
    Column("price_micro_usd", BigInteger, nullable=False),
    Column("received_micro_usd", BigInteger, nullable=False),  # paid towards it, still short
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Index(None, "unique_name", "expires_at_ms"),
    Index(None, "wallet", "expires_at_ms"),
    Index(None, "expires_at_ms"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False),
    # What a month costs and so what an hour burns; fixed when the project is made.
    Column("monthly_price_micro_usd", BigInteger, nullable=False),
    Column("serving_deployment_id", Text),  # the one its address leads to
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
    _status(
        "status",
        "queued",
        "building",
        "deploying",
        "active",
        "failed",
        "suspended",
        "deleting",
        "deleted",
    ),
    Index(None, "wallet", "created_at_ms"),
    Index(
        "uq_projects_living_name",
        "unique_name",
        unique=True,
        sqlite_where=text("deleted_at_ms IS NULL"),
        postgresql_where=text("deleted_at_ms IS NULL"),
    ),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("request_digest", Text, nullable=False),  # SHA-256 of the request body
    Column("plan", Text, nullable=False),  # a Plan as JSON
    Column("note", Text, nullable=False),  # what the deployer should know, such as another port
    Column("reason", Text),  # why it failed, for a person
    Column("reason_code", Text),  # a FailureCause
    Column("log_tail", Text, nullable=False),  # the last lines, when it failed
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),  # when it reached ready or failed
    _status(
        "status",
        "queued",
        "building",
        "deploying",
        "ready",
        "failed",
        "superseded",
        "stopped",
    ),
    Index(None, "project_id", "created_at_ms"),
    Index(None, "status"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("step", Text, nullable=False),  # the last one completed, "" before the first
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),  # grows with each claim; writes of older ones fail
    Column("run_at_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    _status("status", "queued", "running", "done"),
    UniqueConstraint("kind", "subject_id"),
    Index(None, "status", "run_at_ms"),
)

run_intervals = Table(
    "run_intervals",
    metadata,
    # One stretch of time in which a project's app served: what is billed.
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("charged_until_ms", BigInteger, nullable=False),
    Column("charged_micro_usd", BigInteger, nullable=False),
    Index(
        "uq_run_intervals_open",
        "project_id",
        unique=True,
        sqlite_where=text("ended_at_ms IS NULL"),
        postgresql_where=text("ended_at_ms IS NULL"),
    ),
)
