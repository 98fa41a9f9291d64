"""The tables of what wallets are told: events, webhooks, and answers that are repeated."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from moorage.storage.schema.metadata import metadata, one_of

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    # A request with an Idempotency-Key: claimed by who carries it out, and its answer, for as long
    # as that is repeated.
    Column("wallet", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),  # of method, path and body
    Column("answer", Text, nullable=False),  # status, headers and body, as JSON; "" is none yet
    Column("created_at_ms", BigInteger, nullable=False),
    Column("claim_id", Text, nullable=False, server_default=""),  # of who has it, or had it last
    # Until then nobody else carries it out, unless the claim is prolonged or given back.
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
    # What was done, as JSON, written by the transaction that did it; "" is nothing yet.
    Column("outcome", Text, nullable=False, server_default=""),
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
    Column("secret", Text, nullable=False),  # signs what is sent; shown once; sealed
    Column("created_at_ms", BigInteger, nullable=False),
    # When the first of the wallet's pending deliveries is tried; none while none is pending.
    Column("next_at_ms", BigInteger),
    # Until when which gateway sends to it; its claim, under which alone the outcome is noted.
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("holder", Text, nullable=False, server_default=""),
    Column("fence", BigInteger, nullable=False, server_default="0"),  # grows with each claim
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
    one_of("status", "pending", "delivered", "failed"),
    Index(None, "wallet", "status", "id"),
    Index(None, "event_id"),
)
