"""The gateway's metrics, for Prometheus, in one registry for the process.

Label values come from closed sets (route templates, not paths; configured chains; our own codes),
so that no client can add to their number.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from moorage.errors import FailureCause

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_PAYMENT_OUTCOMES = (
    "credited",
    *("payment_already_used", "payer_mismatch", "payment_pending", "payment_not_found"),
    *("payment_held", "challenge_invalid", "challenge_expired", "authorization_refused"),
    *("rate_limited", "chain_unavailable", "database_unavailable"),
)
_AUTH_CODES = (
    *("auth_missing", "timestamp_expired", "signature_invalid", "signature_unbound"),
    *("nonce_reused", "token_invalid"),
)
_MAX_LABELLED = 4096  # cached children; far more than routes × methods × classes

registry = CollectorRegistry()
"""Of this process; a room that sees what others can't adds its own."""

ProcessCollector(registry=registry)


def counter(name: str, about: str, labels: Sequence[str] = ()) -> Counter:
    """Returns a new counter of the registry."""
    return Counter(name, about, labels, registry=registry)


def gauge(name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
    """Returns a new gauge of the registry."""
    return Gauge(name, about, labels, registry=registry)


_requests = Histogram(
    "moorage_http_request_seconds",
    "Time to answer requests, by route template, method and status class.",
    ("route", "method", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=registry,
)
AUTH_FAILURES = counter(
    "moorage_auth_failures_total",
    "Requests refused at authentication, by the answer's code.",
    ("code",),
)
PAYMENTS = counter(
    "moorage_payments_total",
    "Payments presented, by chain, token and outcome.",
    ("chain", "token", "outcome"),
)
_unbooked = gauge(
    "moorage_unbooked_intervals",
    "Hours of running, and new prices, that could not be booked at the last try.",
)
_deployments = counter(
    "moorage_deployments_total",
    "Deployments that ended, by outcome and cause of failure.",
    ("outcome", "cause"),
)
_deploy_seconds = Histogram(
    "moorage_deploy_seconds",
    "Time from accepting a deployment to its end, by outcome.",
    ("outcome",),
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640),
    registry=registry,
)
_parser_ends = counter(
    "moorage_parser_ends_total",
    "Processes that read uploads and were ended by one: of time, late, or by a crash.",
    ("reason",),
)
_rpc_errors = counter(
    "moorage_rpc_errors_total",
    "Calls to chain nodes that failed, by chain and node.",
    ("chain", "node"),
)
_node_up = gauge(
    "moorage_node_up",
    "Whether a node answered when it was last asked, by chain and node, numbered from 1.",
    ("chain", "node"),
)
PAYMENTS_FOUND = counter(
    "moorage_payments_found_total",
    "Transactions that paid and that no request had presented, by chain.",
    ("chain",),
)
PAYMENTS_UNREAD = counter(
    "moorage_payments_unread_total",
    "Transactions that were found and whose receipt is too large to be read, by chain.",
    ("chain",),
)
PAYMENTS_UNCREDITABLE = counter(
    "moorage_payments_uncreditable_total",
    "Looks at transfers that were found and are too large to be credited, by chain.",
    ("chain",),
)
UNSEARCHED_BLOCKS = gauge(
    "moorage_unsearched_blocks",
    "Blocks that are deep enough and not yet searched for payments, by chain.",
    ("chain",),
)
PAYMENTS_MOVED = counter(
    "moorage_payments_moved_total",
    "Payments that a reorganisation moved to another block, by chain.",
    ("chain",),
)
PAYMENTS_REVERSED = counter(
    "moorage_payments_reversed_total",
    "Payments that a reorganisation removed from the chain, by chain.",
    ("chain",),
)
PAYMENTS_DISPUTED = gauge(
    "moorage_payments_disputed",
    "Transactions that paid and on which the chain's nodes disagree, by chain.",
    ("chain",),
)
WEBHOOK_ATTEMPTS = counter(
    "moorage_webhook_attempts_total",
    "Attempts to deliver an event: delivered, failed and tried again, or given up.",
    ("outcome",),
)
WEBHOOK_WAIT = gauge(
    "moorage_webhook_oldest_seconds",
    "How long the oldest event that waits for its delivery has waited.",
)
SETTLEMENTS = counter(
    "moorage_settlements_total",
    "Authorizations presented that were settled, failed, or were refused unspent, by chain.",
    ("chain", "outcome"),
)
UNRESOLVED_SETTLEMENTS = gauge(
    "moorage_unresolved_settlements",
    "Authorizations whose outcome is not known yet, by chain.",
    ("chain",),
)
RELAYER_BALANCE = gauge(
    "moorage_relayer_balance_wei",
    "Gas money that the relayer had when last looked at, in wei, by chain.",
    ("chain",),
)
RELAYER_REVERTED = gauge(
    "moorage_relayer_reverted_wei",
    "Gas money that the relayer lost today, at most, to transactions that did nothing, by chain.",
    ("chain",),
)
TREASURY_GAS = gauge(
    "moorage_treasury_gas_wei",
    "Gas money that refunds are sent with, when last looked at, in wei, by chain.",
    ("chain",),
)
TREASURY_TOKENS = gauge(
    "moorage_treasury_tokens",
    "Tokens that refunds are sent from, when last looked at, by chain and token.",
    ("chain", "token"),
)
REFUNDS_QUEUED = gauge(
    "moorage_refunds_queued",
    "Refunds that wait to be sent by the gateway, or to be decided by its operator.",
    ("by",),
)
FEE_BUMPS = counter(
    "moorage_relayer_fee_bumps_total",
    "Transactions of the relayer that were stuck and offered more, by chain.",
    ("chain",),
)
_wakes = Histogram(
    "moorage_wake_seconds",
    "Time to wake a sleeping app, by whether it came up.",
    ("outcome",),
    buckets=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4),
    registry=registry,
)
_app_requests = counter(
    "moorage_app_requests_total",
    "Requests that apps answered, by status class.",
    ("status",),
)
_app_bytes = counter(
    "moorage_app_bytes_total",
    "Bytes of bodies and WebSockets that went to apps (in) and came from them (out).",
    ("direction",),
)
_app_cpu = counter("moorage_app_cpu_seconds_total", "Processor time that apps used.")
_app_memory = gauge("moorage_app_memory_bytes", "Memory that running apps use now, in all.")
_disk_free = gauge("moorage_disk_free_bytes", "What is free of the disk that apps are on.")
_disk_promised = gauge(
    "moorage_disk_promised_bytes",
    "What apps' disks and volumes may still take.",
)
_ended_for_space = counter(
    "moorage_ended_for_space_total",
    "Apps and builds that were ended as the disk was nearly full.",
)
_lost_volumes = counter(
    "moorage_lost_volumes_total",
    "Volumes of projects that were found gone.",
)
LEADER_FAILURES = counter(
    "moorage_leader_failures_total",
    "How often this gateway had the turn to keep the apps and could not.",
)


def record_request(
    *, route: str, method: str, status: int | None, seconds: float, intended: bool = False
) -> None:
    """Counts an answered request; `status` is None when the client left before the answer."""
    known = method if method in _METHODS else "other"
    status_class = "none" if status is None else "intended" if intended else f"{status // 100}xx"
    _request_histogram(route, known, status_class).observe(seconds)


def refusal_label(error: Exception) -> str:
    """Returns what an error is called in a label: its class in snake case."""
    return _CAPITAL.sub("_", type(error).__name__).lower()


def declare_chain(chain: str, tokens: Iterable[str], *, nodes: int) -> None:
    """Makes the series of a configured chain, so that their first growth is seen."""
    for token in tokens:
        for outcome in _PAYMENT_OUTCOMES:
            PAYMENTS.labels(chain, token, outcome)
    for number in range(1, nodes + 1):
        _rpc_errors.labels(chain, str(number))
        _node_up.labels(chain, str(number)).set(1)
    for outcome in ("settled", "failed", "refused"):
        SETTLEMENTS.labels(chain, outcome)
    for metric in (
        PAYMENTS_FOUND,
        PAYMENTS_UNREAD,
        PAYMENTS_UNCREDITABLE,
        PAYMENTS_MOVED,
        PAYMENTS_REVERSED,
        FEE_BUMPS,
        UNSEARCHED_BLOCKS,
        PAYMENTS_DISPUTED,
    ):
        metric.labels(chain)
    UNRESOLVED_SETTLEMENTS.labels(chain)


def _declare() -> None:
    """Makes the series whose labels are known before anything is."""
    _deployments.labels("ready", "")
    for cause in FailureCause:
        _deployments.labels("failed", cause)
    for code in _AUTH_CODES:
        AUTH_FAILURES.labels(code)
    for reason in ("time", "late", "crash"):
        _parser_ends.labels(reason)
    for attempt in ("delivered", "failed", "given_up"):
        WEBHOOK_ATTEMPTS.labels(attempt)
    for outcome in ("awake", "failed"):
        _wakes.labels(outcome)
    for direction in ("in", "out"):
        _app_bytes.labels(direction)
    for status in ("2xx", "3xx", "4xx", "5xx"):
        _app_requests.labels(status)


def record_unbooked(count: int) -> None:
    """Sets how many intervals and new prices could not be booked."""
    _unbooked.set(count)


def record_deployment(outcome: str, cause: str | None, *, seconds: float | None = None) -> None:
    """Counts a deployment that ended `ready`, or `failed` for a cause, and how long it took."""
    _deployments.labels(outcome, cause or "").inc()
    if seconds is not None:
        _deploy_seconds.labels(outcome).observe(seconds)


def record_disk(*, free_bytes: int, promised_bytes: int) -> None:
    """Sets what is free of the apps' disk, and what they may still take of it."""
    _disk_free.set(free_bytes)
    _disk_promised.set(promised_bytes)


def record_ended_for_space() -> None:
    """Counts an app or a build that was ended because the disk was nearly full."""
    _ended_for_space.inc()


def record_lost_volume() -> None:
    """Counts a volume that was found gone."""
    _lost_volumes.inc()


def record_parser_end(reason: str) -> None:
    """Counts a parser process that a job ended: by `time`, `late`, or else by a crash."""
    _parser_ends.labels(reason if reason in ("time", "late") else "crash").inc()


def record_node(chain: str, number: int, answered: bool) -> None:  # noqa: FBT001 (a callback's)
    """Records whether a chain's node answered; counts its failures."""
    _node_up.labels(chain, str(number)).set(answered)
    if not answered:
        _rpc_errors.labels(chain, str(number)).inc()


def record_wake(*, well: bool, seconds: float) -> None:
    """Records how long it took to wake an app, or to fail at it."""
    _wakes.labels("awake" if well else "failed").observe(seconds)


def record_app_requests(totals: Mapping[str, int]) -> None:
    """Counts apps' requests by class (`status_2xx`), and their `bytes_in` and `bytes_out`."""
    for name, count in totals.items():
        kind, _, value = name.partition("_")
        known = _app_bytes if kind == "bytes" else _app_requests
        known.labels(value).inc(count)


def record_cpu(seconds: float) -> None:
    """Adds to the processor time that apps used."""
    _app_cpu.inc(seconds)


def watch_app_memory(memory_bytes: Callable[[], int]) -> None:
    """Has each scrape call `memory_bytes` for what running apps use."""
    _app_memory.set_function(memory_bytes)


def exposition() -> tuple[bytes, str]:
    """All metrics in Prometheus' text format, and its media type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST


@lru_cache(maxsize=_MAX_LABELLED)
def _request_histogram(route: str, method: str, status_class: str) -> Histogram:
    return _requests.labels(route, method, status_class)


_declare()
