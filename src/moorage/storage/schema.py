"""Every table, once, for SQLite and PostgreSQL alike.

Times are Unix milliseconds (`_ms`). Money is micro-USD, or a token's atomic units as decimal text,
because with 18 decimals 64 bits hold no more than $9. Wallets, token addresses and hashes are
lower-case hex with 0x. Status columns hold the values of their record's enum; a test compares them.
"""

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
    true,
)

from moorage.records.usage import BUCKETS
from moorage.storage import access_schema, operation_schema, work_schema  # noqa: F401 (tables)
from moorage.storage import metadata as shared
from moorage.storage.metadata import one_of, partial_index

metadata = shared.metadata

# Apps: projects, deployments, jobs, addresses, and what they are billed for

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False),
    # The price of a month: fixed when it is given its size, until a row of price_changes is due.
    Column("monthly_price_micro_usd", BigInteger, nullable=False),
    Column("asleep_price_micro_usd", BigInteger, nullable=False, server_default="0"),  # the same
    Column("size", Text, nullable=False, server_default="standard"),  # for which it is billed
    Column("kept_prices", Text, nullable=False, server_default="{}"),  # of sizes that it has left
    Column("serving_deployment_id", Text),  # the deployment that its address is routed to
    Column("created_at_ms", BigInteger, nullable=False),
    Column("deleted_at_ms", BigInteger),
    # The next six are null except while the project is in that state.
    Column("suspended_at_ms", BigInteger),  # in billed time, see run_intervals
    Column("blocked_reason", Text),  # why the operator has it suspended
    Column("asleep_since_ms", BigInteger),  # idle, and stopped until its next request
    Column("no_space_since_ms", BigInteger),  # suspended because the disk was nearly full
    Column("paused_at_ms", BigInteger),  # suspended by its owner since then
    Column("down_since_ms", BigInteger),  # its app should run and does not
    # The same in billed time, where that is the machine's fault: what burns since is given back.
    Column("lost_since_ms", BigInteger),
    Column("health_path", Text, nullable=False, server_default="/"),
    Column("variables", Text, nullable=False, server_default=""),  # of the next one, sealed
    Column("volume", Boolean, nullable=False, server_default=false()),  # has a /data of its own
    # The deployment that served when it was given its volume, and runs without: the volume begins
    # with the next one, and with what this one has written. Null: it had it from its first on.
    Column("volume_after", Text),
    Column("volume_missing", Boolean, nullable=False, server_default=false()),  # to be made
    Column("uncertified_since_ms", BigInteger),  # over plain HTTP, as no certificate was to be had
    Column("months", Integer, nullable=False),  # of running for which its first price holds
    Column("sleep_after_seconds", Integer),  # idle for so long, it sleeps; null: never
    # Of what serves, or is to serve first: a worker has no address.
    Column("kind", Text, nullable=False, server_default="web"),
    one_of("kind", "web", "worker"),
    one_of(
        "status",
        *("queued", "building", "deploying", "active"),
        *("failed", "suspended", "deleting", "deleted"),
    ),
    Index(None, "wallet", "created_at_ms"),
    partial_index("ix_projects_lost", "id", where="lost_since_ms IS NOT NULL"),
    partial_index("ix_projects_blocked", "id", where="blocked_reason IS NOT NULL"),
    partial_index(
        "ix_projects_awake", "status", where="deleted_at_ms IS NULL AND asleep_since_ms IS NULL"
    ),
    partial_index(
        "uq_projects_living_name", "unique_name", unique=True, where="deleted_at_ms IS NULL"
    ),
)

names = Table(
    "names",
    metadata,
    # Which wallet a name belongs to: its project has it, or a quote holds it for the wallet.
    Column("unique_name", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("held_until_ms", BigInteger),  # null while a project has it
    Index(None, "wallet", "held_until_ms"),
)

transfers = Table(
    "transfers",
    metadata,
    # An offer of a project to another wallet.
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("giver", Text, nullable=False),
    Column("taker", Text, nullable=False),
    Column("with_purse", Boolean, nullable=False),
    Column("with_variables", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),  # it can't be accepted after that
    Column("accepted_at_ms", BigInteger),
    Column("withdrawn_at_ms", BigInteger),  # by its giver, also by another offer or a deletion
    Index(None, "giver", "created_at_ms"),
    Index(None, "taker", "created_at_ms"),
    partial_index(
        "uq_transfers_open",
        "project_id",
        unique=True,
        where="accepted_at_ms IS NULL AND withdrawn_at_ms IS NULL",
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
    Column("origin", Text, nullable=False, server_default="upload"),
    Column("copy_of", Text),  # the deployment whose built files it has; none for an upload
    Column("health_path", Text, nullable=False, server_default="/"),
    Column("size", Text, nullable=False, server_default="standard"),  # that it runs at
    Column("variables", Text, nullable=False, server_default=""),  # sealed, as the project's
    # When it stopped serving: after that it is drained, stopped, kept, and deleted in the end.
    Column("superseded_at_ms", BigInteger),
    Column("is_kept", Boolean, nullable=False, server_default=true()),  # its built files are there
    # What its files hold that the deployer should know of: Findings as JSON.
    Column("findings", Text, nullable=False, server_default="[]"),
    Column("advice", Text, nullable=False, server_default="{}"),  # an Advice as JSON, if it failed
    # Who asked for it in place of the wallet: a delegate, or `token:<id>`; "" is the wallet.
    Column("acted_by", Text, nullable=False, server_default=""),
    # The kind of engine that has its files, or is to have them; "" for none yet, or not noted.
    Column("engine", Text, nullable=False, server_default=""),
    # How far its release command has come; null: it is not begun, or there is none.
    Column("release_step", Text),
    one_of("origin", "upload", "rollback", "configuration"),
    one_of("release_step", "begun", "done"),
    one_of("status", "queued", "building", "deploying", "ready", "failed", "superseded", "stopped"),
    Index(None, "project_id", "created_at_ms"),
    Index(None, "status"),
    partial_index(
        "uq_deployments_under_way",
        "project_id",
        unique=True,
        where="status IN ('queued', 'building', 'deploying')",
    ),
)

domains = Table(
    "domains",
    metadata,
    # A project's own host name; it is routed once a DNS record has proved who controls it.
    Column("host", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("token", Text, nullable=False),  # what the TXT record must hold
    Column("status", Text, nullable=False),
    Column("problem", Text, nullable=False, server_default=""),  # what the last check found
    Column("created_at_ms", BigInteger, nullable=False),
    Column("verified_at_ms", BigInteger),
    Column("checked_at_ms", BigInteger),
    Column("next_check_at_ms", BigInteger),  # null: only when its owner asks for a check
    one_of("status", "pending", "verified"),
    Index(None, "project_id"),
    Index(None, "next_check_at_ms"),
    partial_index("uq_domains_verified", "host", unique=True, where="status = 'verified'"),
)

certificates = Table(
    "certificates",
    metadata,
    # A name that has, or may get, a certificate: a host, or `*.` and a base domain.
    Column("host", Text, primary_key=True),
    Column("wallet", Text, nullable=False),  # whose share it counts for; "" is the gateway's own
    Column("first_at_ms", BigInteger, nullable=False),
    Column("asked_at_ms", BigInteger, nullable=False),  # when it was last wanted, within a day
    # The next five are null until it has one.
    Column("chain", Text),  # PEM, its own certificate first
    Column("sealed_key", Text),  # the private key, sealed (storage/vault.py)
    Column("pem_sha256", Text),  # of chain and key together, as the proxy gets them
    Column("not_before_ms", BigInteger),
    Column("not_after_ms", BigInteger),
    Column("authority", Text),  # the directory of the one that signed it; "" is the gateway's own
    # When to order one, the first or the next; null: never.
    Column("order_at_ms", BigInteger),
    # An order that is under way: until when at most; the fence grows with each claim.
    Column("ordered_until_ms", BigInteger),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("ordered_at_ms", BigInteger),  # when the last order that counts for limits began
    Column("failures", Integer, nullable=False, server_default="0"),  # in a row
    Column("problem", Text, nullable=False, server_default=""),  # why the last order failed
    Index(None, "wallet", "first_at_ms"),
    Index(None, "order_at_ms"),
    Index(None, "not_after_ms"),
    Index(None, "ordered_at_ms"),
)

acme_challenges = Table(
    "acme_challenges",
    metadata,
    # What any gateway answers an authority that checks a host (RFC 8555, 8.3).
    Column("token", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("answer", Text, nullable=False),  # the key authorization
    Column("expires_at_ms", BigInteger, nullable=False),
)

authorities = Table(
    "authorities",
    metadata,
    # The account at an authority, by its directory; "" is the gateway's own authority.
    Column("directory", Text, primary_key=True),
    Column("sealed_key", Text, nullable=False),  # the private key, sealed (storage/vault.py)
    Column("account", Text, nullable=False),  # the account's URL; the own authority's root, PEM
)


def _used() -> tuple[Column[int], ...]:
    """What an app used in some time, from control groups and the proxy's access log."""
    names = (
        *("cpu_ms", "memory_byte_seconds", "memory_peak_bytes", "requests", "bytes_in"),
        *("bytes_out", "status_1xx", "status_2xx", "status_3xx", "status_4xx", "status_5xx"),
    )
    later = ("held", "held_ms", "slowest_ms", *BUCKETS)
    return (
        *(Column(name, BigInteger, nullable=False) for name in names),
        *(Column(name, BigInteger, nullable=False, server_default="0") for name in later),
    )


usage = Table(
    "usage",
    metadata,
    # What a project's app used in one hour.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),  # the hour's beginning, Unix time
    *_used(),
    Index(None, "hour_ms"),
)

usage_spans = Table(
    "usage_spans",
    metadata,
    # The same in five minutes; kept for a day.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("begins_ms", BigInteger, primary_key=True),
    *_used(),
    Index(None, "begins_ms"),
)

usage_counters = Table(
    "usage_counters",
    metadata,
    # The counters of a running app's control group when they were last added to `usage`, and what
    # it used between the last two readings; null before the second.
    Column("deployment_id", Text, ForeignKey("deployments.id"), primary_key=True),
    Column("cpu_ms", BigInteger, nullable=False),
    Column("cpu_millis", BigInteger),  # thousandths of a core
    Column("memory_bytes", BigInteger),
)

restarts = Table(
    "restarts",
    metadata,
    # The restarts of an app that ended by itself, until it has run long enough.
    Column("deployment_id", Text, ForeignKey("deployments.id"), primary_key=True),
    Column("last_ms", BigInteger, nullable=False),  # when it was last restarted
    Column("history", Text, nullable=False),  # JSON, hosting.keeping.restarts.History
)

access_log_position = Table(
    "access_log_position",
    metadata,
    # How far a proxy's access log has been added to `usage`: the id is 1 for a machine's one proxy,
    # another number for each gateway with a proxy of its own.
    Column("id", Integer, primary_key=True),
    Column("head", Text, nullable=False),  # `<file>:<offset>` of each of its files
    Column("offset", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("wallet", Text, nullable=False, server_default=""),  # wallets take turns in the queue
    # Whether it builds until its step "built"; few builds may run at once.
    Column("builds", Boolean, nullable=False, server_default=false()),
    Column("status", Text, nullable=False),
    Column("step", Text, nullable=False),  # the last one completed, "" before the first
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),  # grows with each claim; older claims can't write
    Column("run_at_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    Column("holder", Text, nullable=False, server_default=""),  # the gateway that claimed it last
    one_of("status", "queued", "running", "done"),
    UniqueConstraint("kind", "subject_id"),
    Index(None, "status", "run_at_ms"),
)

leases = Table(
    "leases",
    metadata,
    # Which gateway does a duty that only one may do at a time, and until when.
    Column("name", Text, primary_key=True),  # of the duty
    Column("holder", Text, nullable=False),  # a gateway's id
    Column("token", BigInteger, nullable=False),  # grows each time that it is taken
    Column("expires_at_ms", BigInteger, nullable=False),
)

meters = Table(
    "meters",
    metadata,
    # A gateway's billed time at its last tick, and when that was.
    Column("gateway", Text, primary_key=True),  # its id
    Column("billed_ms", BigInteger, nullable=False),
    Column("monotonic_ms", BigInteger, nullable=False),  # since the machine was started
    Column("boot_id", Text, nullable=False),  # of that run of the machine
)

run_intervals = Table(
    "run_intervals",
    metadata,
    # One stretch of time in which a project's app served: what is billed. Its times are billed
    # time: Unix milliseconds that do not advance while the machine does not run.
    Column("id", Text, primary_key=True),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("charged_until_ms", BigInteger, nullable=False),
    Column("charged_micro_usd", BigInteger, nullable=False),
    Column("monthly_price_micro_usd", BigInteger, nullable=False),  # at which it is billed
    Column("asleep", Boolean, nullable=False, server_default=false()),  # else it was awake
    # Whether it ended because its project burned all that its purse's limit lets it in a month.
    Column("at_limit", Boolean, nullable=False, server_default=false()),
    Index(None, "ended_at_ms", "charged_until_ms"),  # which are due
    Index(None, "project_id"),
    partial_index("uq_run_intervals_open", "project_id", unique=True, where="ended_at_ms IS NULL"),
)

# Money: wallets, ledger, payments and all that moves tokens

wallets = Table(
    "wallets",
    metadata,
    Column("address", Text, primary_key=True),
    # The cached sum of the wallet's ledger entries; changes only in the transaction of an entry.
    # Below zero only after the reversal of a payment that had been spent.
    Column("balance_micro_usd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    # The last "credits run out in … hours" warning; null when there are enough credits.
    Column("warned_hours", Integer),
    Column("blocked_reason", Text),  # why the operator has suspended it; null while it is not
    # Grows when its owner ends all delegations: those that were signed for another are void.
    Column("delegation_epoch", Integer, nullable=False, server_default="0"),
)

purses = Table(
    "purses",
    metadata,
    # Credits of one project, which it burns first. They may come before the project, which is
    # entered a moment later, where a payment alone opens it.
    Column("project_id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),  # that paid, and whose project it is
    # The cached sum of the entries of "project:<id>", as a wallet's balance is.
    Column("balance_micro_usd", BigInteger, nullable=False),
    # Whether the project burns its wallet's credits once nothing is left here.
    Column("shared", Boolean, nullable=False),
    # False while a payment alone rules the project: then nothing of its wallet's counts for it.
    Column("adopted", Boolean, nullable=False),
    # The most that the project burns in a calendar month (UTC); null: no limit.
    Column("limit_month_micro_usd", BigInteger),
    Column("warned_hours", Integer),  # as a wallet's
    Column("created_at_ms", BigInteger, nullable=False),
    Index(None, "wallet"),
)

postings = Table(
    "postings",
    metadata,
    # Names the event, so that it is booked once: "payment:42161:0x…:3", "burn:<interval>:<ms>".
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("acted_by", Text, nullable=False, server_default=""),  # as a deployment's
    partial_index("ix_postings_acted_by", "acted_by", "created_at_ms", where="acted_by <> ''"),
)

entries = Table(
    "entries",
    metadata,
    # The order in which entries were written: the rowid in SQLite, a sequence elsewhere.
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("posting_id", Text, ForeignKey("postings.id"), nullable=False),
    # "wallet:0x…", "project:<id>", "held:0x…", "received:<chain_id>:<token>", "earned",
    # "refunded", "granted", "compensated"
    Column("account", Text, nullable=False),
    Column("amount_micro_usd", BigInteger, nullable=False),  # a posting's amounts sum to zero
    UniqueConstraint("posting_id", "account"),
    Index(None, "account"),
)

payments = Table(
    "payments",
    metadata,
    # This key lets a transfer be credited only once: the crediting transaction inserts it.
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
    # How certain it is that the block stays; the payment is checked again at each step.
    Column("finality", Text, nullable=False, server_default="provisional"),
    # How often it was credited: once more after each reversal.
    Column("round", Integer, nullable=False, server_default="1"),
    Column("posting_id", Text, nullable=False, server_default=""),  # of its last credit
    Column("held_reason", Text),  # why screening refused it
    Column("recipient", Text, nullable=False),  # the address of ours that it went to
    # The project to whose purse it went; null for those of wallets.
    Column("purse", Text),
    Column("given_to", Text),  # the wallet that its payer bought the credits for; null: itself
    one_of("status", "credited", "held", "reversed", "refunded"),
    one_of("finality", "provisional", "safe", "finalized"),
    Index(None, "payer"),
    Index(None, "chain_id", "finality", "block_number"),
    Index(None, "claimed_at_ms"),
    partial_index("ix_payments_reversed", "chain_id", "tx_hash", where="status = 'reversed'"),
    partial_index("ix_payments_given_to", "given_to", where="given_to IS NOT NULL"),
)

recipients = Table(
    "recipients",
    metadata,
    # Every address that was ever `pay_to`: a payment to any of them is credited.
    Column("address", Text, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),  # when a gateway first started with it
    # When an operator proved it empty: payments to it are credited no more. Null until then.
    Column("retired_at_ms", BigInteger),
)

payment_uses = Table(
    "payment_uses",
    metadata,
    # What a transaction paid for, for each wallet that paid in it: a deployment, or a top-up,
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
    Column("from_block", BigInteger, nullable=False),  # its use is searched from this block on
    Column("unique_name", Text),  # the name of the quote that it pays; null for a top-up
    Column("status", Text, nullable=False),
    Column("tx_hash", Text),  # the transaction that settled it, ours or another's
    Column("failure", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    # SHA-256 of the body that it came with, where nothing but itself said who sent that.
    Column("open_body", Text),
    # The project whose purse it fills, as it was signed for that alone; null: its payer's credits.
    Column("purse", Text),
    one_of("status", "intended", "sent", "settled", "failed"),
    UniqueConstraint("chain_id", "token_address", "payer", "nonce"),
    Index(None, "chain_id", "status"),
    Index(None, "chain_id", "tx_hash"),
    Index(None, "payer", "status"),
)

relay_transactions = Table(
    "relay_transactions",
    metadata,
    # Every transaction the gateway signs, stored before it is sent. Fee bumps share a nonce.
    Column("chain_id", BigInteger, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("subject_id", Text, nullable=False),  # of a settlement or a refund
    Column("recipient", Text, nullable=False),  # as data and gas_limit, the same for each version
    Column("data", Text, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("max_fee_per_gas", Text, nullable=False),  # wei, decimal
    Column("max_priority_fee_per_gas", Text, nullable=False),  # wei, decimal
    Column("raw", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("block_number", BigInteger),  # where it was mined, if it was
    Column("signed_at_ms", BigInteger, nullable=False),
    one_of("status", "signed", "mined", "reverted", "replaced"),
    Index(None, "chain_id", "sender", "status"),
    Index(None, "subject_id"),
    Index(None, "chain_id", "sender", "nonce"),
)

relay_nonces = Table(
    "relay_nonces",
    metadata,
    # The settlement, refund or gap that a nonce of one of the gateway's keys is used for.
    Column("chain_id", BigInteger, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("nonce", BigInteger, primary_key=True),
    Column("subject_id", Text, nullable=False),
)

refunds = Table(
    "refunds",
    metadata,
    # Tokens sent back on chain; debited before they are sent, so that nothing is refunded twice.
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
    Column("finality", Text, nullable=False, server_default="provisional"),  # of a mined one
    Column("request_id", Text, nullable=False, server_default=""),  # of its customer; "" is none
    Column("gas_micro_usd", BigInteger, nullable=False, server_default="0"),
    Column("decided_by", Text, nullable=False, server_default=""),  # lets a queued one be sent
    Column("waits_because", Text),  # why a queued one is not sent
    one_of("status", "queued", "intended", "sent", "refunded", "failed"),
    one_of("finality", "provisional", "safe", "finalized"),
    Index(None, "chain_id", "tx_hash", "log_index"),
    Index(None, "status"),
    Index(None, "recipient", "created_at_ms"),
)

grants = Table(
    "grants",
    metadata,
    # Credits that the operator gave by hand, without a payment.
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("amount_micro_usd", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("undone_at_ms", BigInteger),  # when the operator took it back; null while it stands
    Index(None, "wallet"),
)

chain_marks = Table(
    "chain_marks",
    metadata,
    # The block up to which something is done for a chain. "search:confirmed" and "search:safe":
    # that unclaimed transfers are searched; "node:<hash of its URL>": the safe search at that node,
    # where a chain has several; both with the block's hash. "balance:<token's address>": that the
    # books account for what our addresses hold, with that amount and those addresses.
    Column("chain_id", BigInteger, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),  # held for the wallet until the quote expires
    Column("months", Integer, nullable=False),
    Column("size", Text, nullable=False, server_default="standard"),
    Column("price_micro_usd", BigInteger, nullable=False),
    Column("received_micro_usd", BigInteger, nullable=False),  # part payments of it so far
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    # When its price was first promised, and what had been paid when it was last prolonged.
    Column("promised_at_ms", BigInteger, nullable=False, server_default="0"),
    Column("counted_micro_usd", BigInteger, nullable=False, server_default="0"),
    Index(None, "unique_name", "expires_at_ms"),
    Index(None, "wallet", "expires_at_ms"),
    Index(None, "expires_at_ms"),
)

# Events, webhooks and deliveries, and answers to repeated requests

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    # A request with an Idempotency-Key: the claim of who carries it out, and its answer.
    Column("wallet", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),  # of method, path and body
    Column("answer", Text, nullable=False),  # status, headers and body, as JSON; "" is none yet
    Column("created_at_ms", BigInteger, nullable=False),
    Column("claim_id", Text, nullable=False, server_default=""),  # of the last claim
    # When the claim ends, unless it is extended or removed.
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
    # What was done, as JSON, written by the transaction that did it; "" is nothing yet.
    Column("outcome", Text, nullable=False, server_default=""),
    Index(None, "created_at_ms"),
)

events = Table(
    "events",
    metadata,
    # What happened to a wallet, in order; written by the transaction that made it happen.
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
    Column("secret", Text, nullable=False),  # signs what is sent; sealed
    Column("created_at_ms", BigInteger, nullable=False),
    # When the first of the wallet's pending deliveries is tried; null while none is pending.
    Column("next_at_ms", BigInteger),
    # The claim of the gateway that sends to it; only the holder of the last claim stores outcomes.
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("holder", Text, nullable=False, server_default=""),
    Column("fence", BigInteger, nullable=False, server_default="0"),  # grows with each claim
    Index(None, "next_at_ms"),
)

deliveries = Table(
    "deliveries",
    metadata,
    # One event to be sent to its wallet's webhook; sending it again on request adds another row.
    # A wallet's pending deliveries are made in the order of their ids.
    Column("id", Integer, primary_key=True),
    Column("event_id", Text, ForeignKey("events.id"), nullable=False),
    Column("wallet", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),  # why the last attempt failed
    Column("created_at_ms", BigInteger, nullable=False),
    one_of("status", "pending", "delivered", "failed"),
    Index(None, "wallet", "status", "id"),
    Index(None, "event_id"),
)

# What an operator set and did

configuration_changes = Table(
    "configuration_changes",
    metadata,
    # A setting with which a gateway started, and that no start before had with this value. The
    # last row of a setting is what is in force. Secrets are in here as fingerprints alone.
    Column("id", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("setting", Text, nullable=False),  # "base_domain"; a chain is "chains.<name>"
    Column("before", Text),  # JSON; null where it was not recorded
    Column("after", Text),  # JSON; null where the setting is gone
    Index(None, "setting", "id"),
)

base_domains = Table(
    "base_domains",
    metadata,
    # Every domain that was ever `base_domain`: apps keep their addresses below it.
    Column("domain", Text, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),  # when a gateway first started with it
    Column("retired_at_ms", BigInteger),  # when an operator gave it up; null while it is served
)

agreements = Table(
    "agreements",
    metadata,
    # What the first of several gateways has chosen for all on this database.
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

gateways = Table(
    "gateways",
    metadata,
    # A named gateway that runs, or ran within a day.
    Column("id", Text, primary_key=True),  # as leases name their holders
    Column("name", Text, nullable=False),  # the setting gateway_name
    Column("fingerprints", Text, nullable=False),  # fingerprints of its keys as JSON, by their use
    Column("seen_at_ms", BigInteger, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    # What an operator tells all customers at the moment.
    Column("kind", Text, primary_key=True),  # "maintenance": no new deploys; "announcement"
    Column("text", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)

wallet_rules = Table(
    "wallet_rules",
    metadata,
    # What an operator allows a wallet, where that differs from all others.
    Column("wallet", Text, primary_key=True),
    Column("is_listed", Boolean, nullable=False, server_default=false()),  # may deploy by the list
    Column("max_projects", Integer),  # in place of the setting; null: as the setting says
)

price_changes = Table(
    "price_changes",
    metadata,
    # A new price of a project that there is, as an operator ordered it.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("ordered_at_ms", BigInteger, primary_key=True),
    Column("before_micro_usd", BigInteger, nullable=False),  # a month, as it was announced
    Column("after_micro_usd", BigInteger, nullable=False),
    Column("after_asleep_micro_usd", BigInteger, nullable=False, server_default="0"),
    Column("from_ms", BigInteger, nullable=False),  # it holds from then on, or once it may
    # When it may be due, as far as is known: tried again then. Null when it is in force.
    Column("look_at_ms", BigInteger),
    Column("applied_at_ms", BigInteger),  # when it came into force, in billed time
    Index(None, "look_at_ms"),
)

evictions = Table(
    "evictions",
    metadata,
    # A project that an operator has ordered to be deleted.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("reason", Text, nullable=False),  # which its owner reads
    Column("at_ms", BigInteger, nullable=False),  # when it is due
    # Whether its owner gets an archive of what it has.
    Column("with_export", Boolean, nullable=False, server_default=true()),
    # When it was last tried, if that failed, and why: null after a try that went well.
    Column("failed_at_ms", BigInteger),
    Column("failure", Text),
    Index(None, "at_ms"),
)

exports = Table(
    "exports",
    metadata,
    # An archive of a project: its owner has asked for it, or an operator has ordered the deletion.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("by_owner", Boolean, primary_key=True),
    Column("token", Text, nullable=False, unique=True),  # who knows it may fetch the archive
    Column("state", Text, nullable=False),  # ExportState
    Column("file_name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),  # of the archive
    Column("is_last", Boolean, nullable=False),  # made when the deletion was due
    Column("public_key", Text),  # to which variables are sealed; null: they are left out
    Column("attempts", Integer, nullable=False),  # to make it
    Column("reason", Text, nullable=False),  # why it could not be made
    Column("began_at_ms", BigInteger, nullable=False),  # when it was asked for
    Column("until_ms", BigInteger, nullable=False),  # when it goes
)
