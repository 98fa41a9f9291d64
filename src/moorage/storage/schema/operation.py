"""The tables of operation: what an operator set, and what an operator did."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    false,
    true,
)

from moorage.storage.schema.metadata import metadata

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
    # When the books were last audited, and the gateway saved, and what was found.
    Column("kind", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("wrong", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
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
    Column("before_micro_usd", BigInteger, nullable=False),  # a month, as it was told
    Column("after_micro_usd", BigInteger, nullable=False),
    Column("from_ms", BigInteger, nullable=False),  # it holds from then on, or once it may
    # When it may be due, as far as is known: looked at again then. Null when it is in force.
    Column("look_at_ms", BigInteger),
    Column("applied_at_ms", BigInteger),  # when it came into force, in billed time
    Index(None, "look_at_ms"),
)

evictions = Table(
    "evictions",
    metadata,
    # A project that an operator has ordered to be deleted.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("reason", Text, nullable=False),  # told to its owner
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
    # An archive of a project that is, or was, to be deleted by an operator.
    Column("project_id", Text, ForeignKey("projects.id"), primary_key=True),
    Column("token", Text, nullable=False, unique=True),  # who knows it may fetch the archive
    Column("file_name", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("is_last", Boolean, nullable=False),  # made when the deletion was due
    Column("until_ms", BigInteger, nullable=False),  # when it goes
)
