"""Every table, once, for SQLite and PostgreSQL alike.

Times are Unix milliseconds (`_ms`). Money is micro-USD or a token's atomic units, the latter as
decimal text: with 18 decimals, 64 bits are $9. Wallets, token addresses and hashes are lower-case
hex with 0x. Status columns hold the values of the enums of their subject; a test compares them.
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


def _one_of(name: str, *values: str) -> CheckConstraint:
    """A column with the values of an enum."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{name} IN ({listed})", name=f"{name}_known")


wallets = Table(
    "wallets",
    metadata,
    Column("address", Text, primary_key=True),
    # The cached sum of the wallet's ledger entries; changes only in the transaction of an entry.
    # Below zero only after a payment was reversed that had been spent.
    Column("balance_micro_usd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    # The last of the "credits run out in … hours" warnings given since there was enough.
    Column("warned_hours", Integer),
)

postings = Table(
    "postings",
    metadata,
    # Names the event, so that it is booked once: "payment:42161:0x…:3", "burn:<interval>:<ms>".
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("posting_id", Text, ForeignKey("postings.id"), primary_key=True),
    # "wallet:0x…", "held:0x…", "received:<chain_id>:<token>", "earned", "refunded"
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
    Column("amount_atomic", Text, nullable=False),
    Column("credited_micro_usd", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("claimed_at_ms", BigInteger, nullable=False),
    Column("status", Text, nullable=False, server_default="credited"),
    # How sure it is that the block stays: looked at again at each step.
    Column("finality", Text, nullable=False, server_default="provisional"),
    # How often it was credited: once more after each reversal.
    Column("round", Integer, nullable=False, server_default="1"),
    Column("posting_id", Text, nullable=False, server_default=""),  # of its last credit
    Column("held_reason", Text),  # why screening refused it
    _one_of("status", "credited", "held", "reversed", "refunded"),
    _one_of("finality", "provisional", "safe", "finalized"),
    Index(None, "payer"),
    Index(None, "chain_id", "finality", "block_number"),
    Index(
        "ix_payments_reversed",
        "chain_id",
        "tx_hash",
        sqlite_where=text("status = 'reversed'"),
        postgresql_where=text("status = 'reversed'"),
    ),
)

payment_uses = Table(
    "payment_uses",
    metadata,
    # What a transaction paid for, for each of those who paid in it: a deployment, or a top-up,
    # which has no ids.
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("wallet", Text, primary_key=True),
    Column("project_id", Text),
    Column("deployment_id", Text),
)

settlements = Table(
    "settlements",
    metadata,
    # An authorization (EIP-3009) that the gateway's relayer turns into a transaction; stored
    # before anything is sent.
    Column("id", Text, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("token_address", Text, nullable=False),
    Column("payer", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("amount_atomic", Text, nullable=False),
    Column("valid_after", Text, nullable=False),  # Unix seconds, decimal: up to 2**256 - 1
    Column("valid_before", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("from_block", BigInteger, nullable=False),  # unused there: its use is searched from here
    Column("unique_name", Text),  # whose quote it was paid towards; none for a top-up
    Column("status", Text, nullable=False),
    Column("tx_hash", Text),  # the transaction that settled it, ours or another's
    Column("failure", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    _one_of("status", "intended", "sent", "settled", "failed"),
    UniqueConstraint("chain_id", "token_address", "payer", "nonce"),
    Index(None, "chain_id", "status"),
    Index(None, "chain_id", "tx_hash"),
    Index(None, "payer", "status"),
)

relay_transactions = Table(
    "relay_transactions",
    metadata,
    # Every transaction the gateway signs, before it is sent. Several of one nonce: fee bumps.
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("subject_id", Text, nullable=False),  # of a settlement or a refund
    Column("recipient", Text, nullable=False),  # with data and gas_limit: what each version does
    Column("data", Text, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("max_fee_per_gas", Text, nullable=False),  # wei, decimal
    Column("max_priority_fee_per_gas", Text, nullable=False),  # wei, decimal
    Column("raw", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("block_number", BigInteger),  # where it was mined, if it was
    Column("signed_at_ms", BigInteger, nullable=False),
    _one_of("status", "signed", "mined", "reverted", "replaced"),
    Index(None, "chain_id", "sender", "status"),
    Index(None, "subject_id"),
    Index(None, "chain_id", "sender", "nonce"),
)

refunds = Table(
    "refunds",
    metadata,
    # Tokens sent back on chain; debited when intended, so that nothing is refunded twice.
    Column("id", Text, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("tx_hash", Text, nullable=False),  # of the payment that is refunded, as is log_index
    Column("log_index", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("token_address", Text, nullable=False),
    Column("amount_atomic", Text, nullable=False),
    Column("debited_micro_usd", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("refund_tx_hash", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    _one_of("status", "intended", "sent", "refunded", "failed"),
    Index(None, "chain_id", "tx_hash", "log_index"),
    Index(None, "status"),
)

watch_cursors = Table(
    "watch_cursors",
    metadata,
    # Up to where a chain has been searched for transfers that nobody claimed, by each search.
    Column("chain_id", BigInteger, primary_key=True),
    Column("search", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    _one_of("search", "confirmed", "safe"),
)

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    # The answer to a request with an Idempotency-Key, for as long as it is repeated.
    Column("wallet", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),  # of method, path and body
    Column("answer", Text, nullable=False),  # status, headers and body, as JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Index(None, "created_at_ms"),
)

events = Table(
    "events",
    metadata,
    # What happened to a wallet, in its order; written by the transaction that made it happen.
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # from 1, by wallet, without gaps
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("wallet", "sequence"),
    Index(None, "created_at_ms"),
)

webhooks = Table(
    "webhooks",
    metadata,
    # Where a wallet wants its events sent.
    Column("wallet", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),  # signs what is sent; shown once
    Column("created_at_ms", BigInteger, nullable=False),
    # When the first of the wallet's pending deliveries is tried; none while none is pending.
    Column("next_at_ms", BigInteger),
    Index(None, "next_at_ms"),
)

deliveries = Table(
    "deliveries",
    metadata,
    # One event on its way to its wallet's webhook; asking for it again makes another one. The ids
    # grow: a wallet's pending ones are carried out in their order.
    Column("id", Integer, primary_key=True),
    Column("event_id", Text, ForeignKey("events.id"), nullable=False),
    Column("wallet", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),  # why the last attempt failed
    Column("created_at_ms", BigInteger, nullable=False),
    _one_of("status", "pending", "delivered", "failed"),
    Index(None, "wallet", "status", "id"),
    Index(None, "event_id"),
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
    Column("suspended_at_ms", BigInteger),  # in billed time, see run_intervals; while it is
    _one_of(
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
    _one_of(
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
    _one_of("status", "queued", "running", "done"),
    UniqueConstraint("kind", "subject_id"),
    Index(None, "status", "run_at_ms"),
)

meter = Table(
    "meter",
    metadata,
    # One row, of id 1: how far billed time had come at the last tick, and when that was.
    Column("id", Integer, primary_key=True),
    Column("billed_ms", BigInteger, nullable=False),
    Column("monotonic_ms", BigInteger, nullable=False),  # since the machine was started
    Column("boot_id", Text, nullable=False),  # of that run of the machine
)

run_intervals = Table(
    "run_intervals",
    metadata,
    # One stretch of time in which a project's app served: what is billed. Its times are billed
    # time: Unix milliseconds that stand still while the machine does.
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("charged_until_ms", BigInteger, nullable=False),
    Column("charged_micro_usd", BigInteger, nullable=False),
    Index(None, "ended_at_ms", "charged_until_ms"),  # which are due
    Index(
        "uq_run_intervals_open",
        "project_id",
        unique=True,
        sqlite_where=text("ended_at_ms IS NULL"),
        postgresql_where=text("ended_at_ms IS NULL"),
    ),
)
