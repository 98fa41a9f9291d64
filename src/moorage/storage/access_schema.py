"""The tables of what lets others in: sessions and links of pages, manage tokens, delegations."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text, false

from moorage.storage.metadata import metadata, one_of

sessions = Table(
    "sessions",
    metadata,
    # A browser whose person signed in, or opened a link. One that was ended stays until it would
    # have expired, as its nonce is used.
    Column("digest", Text, primary_key=True),  # SHA-256 of the secret in the cookie
    Column("role", Text, nullable=False),
    Column("who", Text, nullable=False),  # a wallet; of an operator also who made the link
    Column("project_id", Text),  # the only project that it shows; null: all
    Column("may_change", Boolean, nullable=False),
    Column("link_id", Text),  # the link that opened it, if that can be opened again
    Column("nonce", Text, unique=True),  # of the text that was signed; null for a link
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),  # when somebody ended it; null while nobody did
    Column("signed_ms", BigInteger),  # when the last text was issued that its wallet signed
    one_of("role", "wallet", "operator"),
    Index(None, "who", "created_at_ms"),
    Index(None, "link_id"),
    Index(None, "expires_ms"),
)

links = Table(
    "links",
    metadata,
    # A link to pages. It goes when it is revoked, or has expired.
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),  # SHA-256 of the secret in its URL
    Column("role", Text, nullable=False),
    Column("who", Text, nullable=False),  # as in sessions
    Column("project_id", Text),
    Column("may_change", Boolean, nullable=False),
    Column("once", Boolean, nullable=False, server_default=false()),  # used up when it is opened
    Column("label", Text, nullable=False),  # its maker's, for people
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),  # when it was last opened
    one_of("role", "wallet", "operator"),
    Index(None, "who", "created_at_ms"),
    Index(None, "expires_ms"),
)

manage_tokens = Table(
    "manage_tokens",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of a token that manages the project
    Column("id", Text, nullable=False),  # stays where another text takes the place of a lost one
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("scopes", Text, nullable=False, server_default="read deploy delete"),
    Column("expires_ms", BigInteger),  # null: with its project
    Index(None, "project_id", "created_at_ms"),
)

delegations = Table(
    "delegations",
    metadata,
    # What an owner has signed so that another wallet may act for it. What has ended stays until it
    # would have expired, so that it can't be shown again.
    Column("id", Text, primary_key=True),  # the digest that was signed, in hex
    Column("owner", Text, nullable=False),
    Column("delegate", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("project", Text, nullable=False),  # a unique name; "" for all of the wallet
    Column("scopes", Text, nullable=False),  # with a space between them
    Column("limit_usd_month", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),  # Unix seconds
    Column("epoch", Integer, nullable=False),
    Column("signature", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Index(None, "owner", "delegate"),
)

recoveries = Table(
    "recoveries",
    metadata,
    # The address that may take a wallet over when its key is lost. Times that have to pass are due
    # at a wall time and at a billed time as well, so that no change of the clock shortens them.
    Column("wallet", Text, primary_key=True),
    Column("address", Text, nullable=False),  # in force; "" for none
    Column("wait_days", BigInteger, nullable=False),
    Column("next_address", Text, nullable=False, server_default=""),
    Column("next_wait_days", BigInteger, nullable=False, server_default="0"),
    Column("change_at_ms", BigInteger),  # when the next takes effect; null for none
    Column("change_billed_ms", BigInteger),
    Column("claim_at_ms", BigInteger),  # when the address takes the wallet over; null: no claim
    Column("claim_billed_ms", BigInteger),
    Column("claim_not_before_ms", BigInteger, nullable=False, server_default="0"),
    Column("told_at_ms", BigInteger, nullable=False, server_default="0"),  # the address, of changes
    Column("taken_over_at_ms", BigInteger),
    Index(None, "claim_at_ms"),
    Index(None, "change_at_ms"),
    Index(None, "taken_over_at_ms"),
)
