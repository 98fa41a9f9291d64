"""The tables of apps: projects, deployments, jobs, and what they are billed for."""

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
from moorage.storage.schema.metadata import metadata, one_of, partial_index

projects = Table(
    "projects",
    metadata,
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("unique_name", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False),
    # The price of a month: fixed when the project is made, until a row of price_changes is due.
    Column("monthly_price_micro_usd", BigInteger, nullable=False),
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
    Column("health_path", Text, nullable=False, server_default="/"),
    # The variables of the next deployment, sealed (storage/vault.py); "" is none.
    Column("variables", Text, nullable=False, server_default=""),
    Column("volume", Boolean, nullable=False, server_default=false()),  # has a /data of its own
    # The deployment that served when it was given its volume, and runs without: the volume begins
    # with the next one, and with what this one has written. Null: it had it from its first on.
    Column("volume_after", Text),
    # Since when it is served over plain HTTP, as no certificate could be had; null if not.
    Column("uncertified_since_ms", BigInteger),
    # The months of running for which its first price holds; null for rows older than this column.
    Column("months", Integer),
    one_of(
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
    partial_index(
        "ix_projects_blocked",
        "id",
        where="blocked_reason IS NOT NULL",
    ),
    partial_index(
        "ix_projects_awake",
        "status",
        where="deleted_at_ms IS NULL AND asleep_since_ms IS NULL",
    ),
    partial_index(
        "uq_projects_living_name",
        "unique_name",
        unique=True,
        where="deleted_at_ms IS NULL",
    ),
)

manage_tokens = Table(
    "manage_tokens",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of a token that manages the project
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Index(None, "project_id", "created_at_ms"),
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
    # The deployment whose built files it has; none for an upload.
    Column("copy_of", Text),
    Column("health_path", Text, nullable=False, server_default="/"),
    Column("variables", Text, nullable=False, server_default=""),  # sealed, as the project's
    # When it stopped serving: after that it is drained, stopped, kept, and deleted in the end.
    Column("superseded_at_ms", BigInteger),
    # Whether its built files are on the machine, so that it can be served again.
    Column("is_kept", Boolean, nullable=False, server_default=true()),
    # What its files hold that the deployer should know of: Findings as JSON.
    Column("findings", Text, nullable=False, server_default="[]"),
    # The kind of engine that has its files, or is to have them; "" for none yet, or not noted.
    Column("engine", Text, nullable=False, server_default=""),
    one_of("origin", "upload", "rollback", "configuration"),
    one_of(
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
    partial_index(
        "uq_deployments_under_way",
        "project_id",
        unique=True,
        where="status IN ('queued', 'building', 'deploying')",
    ),
)

build_runs = Table(
    "build_runs",
    metadata,
    # One attempt to build a deployment: how long it ran, and what of that was paid for.
    Column("id", Text, primary_key=True),
    Column("wallet", Text, nullable=False),
    Column("project_id", Text, ForeignKey("projects.id"), nullable=False),
    Column("deployment_id", Text, ForeignKey("deployments.id"), nullable=False),
    Column("monthly_price_micro_usd", BigInteger, nullable=False),  # of a month of building
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ran_ms", BigInteger, nullable=False),
    Column("billed_ms", BigInteger, nullable=False),  # the part beyond the wallet's allowance
    Column("charged_micro_usd", BigInteger, nullable=False),
    Index(None, "wallet"),
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
    partial_index(
        "uq_domains_verified",
        "host",
        unique=True,
        where="status = 'verified'",
    ),
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
    Column("history", Text, nullable=False),  # JSON, deploy.keeping.restarts.History
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
    Column("gateway", Text, primary_key=True),  # its id; "" for rows older than ids
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
    # The price it is billed at; null, as the project's, for rows older than this column.
    Column("monthly_price_micro_usd", BigInteger),
    Index(None, "ended_at_ms", "charged_until_ms"),  # which are due
    partial_index(
        "uq_run_intervals_open",
        "project_id",
        unique=True,
        where="ended_at_ms IS NULL",
    ),
)
