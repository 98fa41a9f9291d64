"""The tables of access to pages: sessions of browsers, and links that open one."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Table, Text, false

from moorage.storage.schema.metadata import metadata, one_of

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
