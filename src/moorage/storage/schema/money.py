"""The tables of money: wallets, ledger, payments and all that moves tokens."""

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

from moorage.storage.schema.metadata import metadata, one_of, partial_index

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
)

purses = Table(
    "purses",
    metadata,
    # Credits of one project: those that opened it or were added for it, while its payer's wallet
    # has not adopted it. They may come before the project, which is entered a moment later.
    Column("project_id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),  # that paid, and whose project it is
    # The cached sum of the entries of "project:<id>", as a wallet's balance is.
    Column("balance_micro_usd", BigInteger, nullable=False),
    # Whether the project burns its wallet's credits: then nothing more is kept here.
    Column("shared", Boolean, nullable=False, server_default=false()),
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
)

entries = Table(
    "entries",
    metadata,
    # The order in which entries were written: the rowid in SQLite, a sequence elsewhere.
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("posting_id", Text, ForeignKey("postings.id"), nullable=False),
    # "wallet:0x…", "project:<id>", "held:0x…", "received:<chain_id>:<token>", "earned",
    # "refunded", "granted"
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
    # The address of ours that it went to; null for rows older than this column.
    Column("recipient", Text),
    # The project to whose purse it went; null for those of wallets.
    Column("purse", Text),
    # The deployment that it paid for, "" for a top-up: as `payment_uses` says, which the audit
    # compares. Null while it was used for nothing, and for what was used before this column.
    Column("used_for", Text),
    one_of("status", "credited", "held", "reversed", "refunded"),
    one_of("finality", "provisional", "safe", "finalized"),
    Index(None, "payer"),
    Index(None, "chain_id", "finality", "block_number"),
    Index(None, "claimed_at_ms"),
    partial_index(
        "ix_payments_reversed",
        "chain_id",
        "tx_hash",
        where="status = 'reversed'",
    ),
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
    # Whether the block of a mined refund is safe; until then it is checked again.
    Column("finality", Text, nullable=False, server_default="provisional"),
    one_of("status", "intended", "sent", "refunded", "failed"),
    one_of("finality", "provisional", "safe", "finalized"),
    Index(None, "chain_id", "tx_hash", "log_index"),
    Index(None, "status"),
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

watch_cursors = Table(
    "watch_cursors",
    metadata,
    # How far each search of a chain for unclaimed transfers has come.
    Column("chain_id", BigInteger, primary_key=True),
    Column("search", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    one_of("search", "confirmed", "safe"),
)

node_cursors = Table(
    "node_cursors",
    metadata,
    # How far the search of safe blocks has come at each node, where a chain has several.
    Column("chain_id", BigInteger, primary_key=True),
    Column("node", Text, primary_key=True),  # from a hash of its URL, which may hold a key
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
)

balance_marks = Table(
    "balance_marks",
    metadata,
    # What our addresses held together after a block, up to which the books account for it.
    Column("chain_id", BigInteger, primary_key=True),
    Column("token_address", Text, primary_key=True),
    Column("addresses", Text, nullable=False),  # in order, with spaces between
    Column("block_number", BigInteger, nullable=False),
    Column("amount_atomic", Text, nullable=False),  # decimal
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),  # held for the wallet until the quote expires
    Column("months", Integer, nullable=False),
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
