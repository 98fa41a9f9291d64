"""The tables of what an operator did, is told of, and must not forget."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from moorage.storage.metadata import metadata, one_of, partial_index

operator_acts = Table(
    "operator_acts",
    metadata,
    # A command with which an operator changed something; written by the transaction that did it.
    Column("id", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),  # the user of the machine, and whom sudo acted for
    Column("act", Text, nullable=False),  # the command, such as "suspend"
    Column("subject", Text, nullable=False),  # whom or what it was done to
    Column("reason", Text, nullable=False),  # "" where the command takes none
    Index(None, "at_ms"),
)

upkeep = Table(
    "upkeep",
    metadata,
    # When the books were last audited, and the gateway saved and tried, and what was found.
    Column("kind", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("wrong", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),  # why it failed since; "" if it did not
)

alerts = Table(
    "alerts",
    metadata,
    # What a rule of alerts.toml found wrong. A row that never fired goes when it is right again.
    Column("id", Text, primary_key=True),  # receivers of messages know it again by this
    Column("gateway", Text, nullable=False),  # its name; "" for the only one, or for all
    Column("rule", Text, nullable=False),
    Column("labels", Text, nullable=False),  # of the series, as JSON with keys in order
    Column("summary", Text, nullable=False),  # for a person
    Column("began_ms", BigInteger, nullable=False),
    # The next three are null until then.
    Column("fired_ms", BigInteger),  # it was so for as long as the rule says
    Column("well_ms", BigInteger),  # it is not so any more, since then
    Column("ended_ms", BigInteger),  # and for long enough
    # What each channel was last told of it.
    Column("told_by_webhook", Text, nullable=False, server_default=""),
    Column("told_by_mail", Text, nullable=False, server_default=""),
    one_of("told_by_webhook", "", "firing", "resolved"),
    one_of("told_by_mail", "", "firing", "resolved"),
    partial_index(
        "uq_alerts_open", "gateway", "rule", "labels", unique=True, where="ended_ms IS NULL"
    ),
    Index(None, "ended_ms"),
)

alert_channels = Table(
    "alert_channels",
    metadata,
    # A way to the operator. It has at most one message under way; what comes up meanwhile is in
    # the next one.
    Column("name", Text, primary_key=True),
    Column("message", Text, nullable=False),  # a Message as JSON; "" for none
    Column("attempts", Integer, nullable=False),  # made so far to deliver it
    Column("next_ms", BigInteger, nullable=False),  # when to make the next one
    Column("error", Text, nullable=False),  # why the last one failed; "" if it did not
    Column("delivered_ms", BigInteger),  # when a message was last delivered; null: never
    Column("digest_ms", BigInteger, nullable=False),  # when the last digest was written; 0: never
    one_of("name", "webhook", "mail"),
)
