"""Every table, once, for SQLite and PostgreSQL alike.

Times are Unix milliseconds (`_ms`). Money is micro-USD, or a token's atomic units as decimal text,
because with 18 decimals 64 bits hold no more than $9. Wallets, token addresses and hashes are
lower-case hex with 0x. Status columns hold the values of their record's enum; a test compares them.
"""

from moorage.storage.schema.apps import (
    access_log_position,
    build_runs,
    certificates,
    deployments,
    domains,
    jobs,
    leases,
    manage_tokens,
    meters,
    names,
    projects,
    restarts,
    run_intervals,
    usage,
    usage_counters,
)
from moorage.storage.schema.events import (
    deliveries,
    events,
    idempotent_answers,
    webhooks,
)
from moorage.storage.schema.metadata import metadata
from moorage.storage.schema.money import (
    entries,
    payment_uses,
    payments,
    postings,
    quotes,
    recipients,
    refunds,
    relay_nonces,
    relay_transactions,
    settlements,
    wallets,
    watch_cursors,
)
from moorage.storage.schema.operation import (
    agreements,
    base_domains,
    configuration_changes,
    gateways,
    operator_acts,
    upkeep,
)

__all__ = [
    "access_log_position",
    "agreements",
    "base_domains",
    "build_runs",
    "certificates",
    "configuration_changes",
    "deliveries",
    "deployments",
    "domains",
    "entries",
    "events",
    "gateways",
    "idempotent_answers",
    "jobs",
    "leases",
    "manage_tokens",
    "metadata",
    "meters",
    "names",
    "operator_acts",
    "payment_uses",
    "payments",
    "postings",
    "projects",
    "quotes",
    "recipients",
    "refunds",
    "relay_nonces",
    "relay_transactions",
    "restarts",
    "run_intervals",
    "settlements",
    "upkeep",
    "usage",
    "usage_counters",
    "wallets",
    "watch_cursors",
    "webhooks",
]
