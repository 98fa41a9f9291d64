"""The tables of events, webhooks and deliveries, and of answers to repeated requests."""

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
    # A request with an Idempotency-Key: the claim of whoever carries it out, and its answer.
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
