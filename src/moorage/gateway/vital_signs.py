"""What a gateway tells of itself as metrics, beside what its rooms count: parts, queue, upkeep."""

import asyncio
import platform
from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client.registry import Collector

from moorage import __version__
from moorage.certificates.installation import WildcardFiles
from moorage.certificates.orders import UNWANTED_MS
from moorage.chains.rpc import RpcClient
from moorage.core import Core
from moorage.errors import ChainUnavailable
from moorage.metrics import gauge, registry
from moorage.payments.watch.watcher import Watcher
from moorage.storage.apps import certificates, jobs, projects
from moorage.storage.migrate import NEWEST_REVISION
from moorage.storage.operation import audit_log, evictions
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone, kinds_of_upkeep

EVERY_SECONDS = 30.0

_build_info = gauge(
    "moorage_build_info",
    "1: the version that runs, its database's schema, and Python's version.",
    ("version", "schema", "python"),
)
_part_ready = gauge(
    "moorage_part_ready",
    "Whether a part of /ready was well when last checked, by part.",
    ("part",),
)
SLEEPING_APPS = gauge("moorage_sleeping_apps", "Apps that are asleep now.")
RUNNING_APPS = gauge("moorage_running_apps", "Apps that run now.")
NONCES = gauge("moorage_nonces", "Nonces remembered now.")
_jobs = gauge("moorage_jobs_waiting", "Deployments that wait for their turn.")
_oldest_job = gauge(
    "moorage_job_oldest_seconds",
    "How long the deployment that waits the longest has waited.",
)
_search_idle = gauge(
    "moorage_search_idle_seconds",
    "How long ago the search for payments last came on, by chain; 0 where another gateway does it.",
    ("chain",),
)
_certificates = gauge("moorage_certificates", "Certificates that the gateway has ordered.")
_certificate_end = gauge(
    "moorage_certificate_end_timestamp_seconds",
    "When the first of the certificates ends that are in use, the operator's own included; 0 "
    "without any.",
)
_uncertified_apps = gauge(
    "moorage_uncertified_apps",
    "Apps that are served over plain HTTP, for nothing, as no certificate could be had.",
)
_upkeep_time = gauge(
    "moorage_upkeep_timestamp_seconds",
    "When the books were last audited, and the gateway saved; 0: never. Where backup_to is set, "
    "off-site too, and when a drill last restored that.",
    ("kind",),
)
_upkeep_failed = gauge(
    "moorage_upkeep_failed",
    "Whether an off-site backup, or its drill, failed when it was last tried.",
    ("kind",),
)
_offsite_bytes = gauge("moorage_offsite_backup_bytes", "The size of the last off-site backup.")
_audit_findings = gauge(
    "moorage_audit_findings",
    "What the last audit found: rows that are wrong or pending, chains that are unknown.",
    ("kind",),
)
_eviction_overdue = gauge(
    "moorage_eviction_overdue_seconds",
    "How long the deletion that an operator has ordered, and that is due the longest, has been "
    "due; 0 without any.",
)
_build_info.labels(__version__, NEWEST_REVISION, platform.python_version()).set(1)


Labels = frozenset[tuple[str, str]]
"""A series' labels: names and values."""


class Samples:
    """What every series says at one time, or those of some names."""

    def __init__(self, registry: Collector = registry) -> None:
        self._values: dict[str, dict[Labels, float]] = {}
        for metric in registry.collect():
            for name, labels, value, *_ in metric.samples:
                self._values.setdefault(name, {})[frozenset(labels.items())] = value

    def __call__(self, name: str, **labels: str) -> float:
        """Returns a series' value; 0 for one of which nothing was recorded."""
        return self.of(name).get(frozenset(labels.items()), 0.0)

    def of(self, name: str) -> Mapping[Labels, float]:
        """Returns the values of all series of a name, by their labels."""
        return self._values.get(name, {})


def watch_searches(core: Core, watchers: Iterable[Watcher]) -> None:
    """Has each scrape ask the searches that this gateway does how long ago they came on."""

    def idle_seconds(watcher: Watcher) -> float:
        return watcher.idle_seconds if core.leases.holds(watcher.duty) else 0

    for watcher in watchers:
        _search_idle.labels(watcher.chain_name).set_function(partial(idle_seconds, watcher))


async def ask_nodes(clients: Iterable[RpcClient]) -> None:
    """Asks every node of every chain for its head, so that each is known to answer or not."""
    await asyncio.gather(*map(_ask_nodes, clients))


async def _ask_nodes(client: RpcClient) -> None:
    try:
        await client.each([("eth_blockNumber", [])])
    except ChainUnavailable:
        return  # the client has counted it


def note_parts(states: Mapping[str, str]) -> None:
    """Records which parts of /ready are well."""
    for part, state in states.items():
        _part_ready.labels(part).set(state == "ok")


async def note_queue(core: Core) -> None:
    """Records how many deployments wait, and how long. Raises DatabaseUnavailable."""
    now_ms = core.clock.now_ms()
    waiting, since_ms = await jobs.waiting(core.db, now_ms=now_ms)
    _jobs.set(waiting)
    _oldest_job.set(0 if since_ms is None else max(0, now_ms - since_ms) / 1000)


async def note_uncertified(core: Core) -> None:
    """Records how many apps wait for a certificate. Raises DatabaseUnavailable."""
    _uncertified_apps.set(len(await projects.uncertified(core.db)))


async def note_evictions(core: Core) -> None:
    """Records how long an ordered deletion has been due. Raises DatabaseUnavailable."""
    due_ms = await evictions.first_due_ms(core.db)
    overdue_ms = 0 if due_ms is None else core.clock.now_ms() - due_ms
    _eviction_overdue.set(max(0, overdue_ms) / 1000)


async def note_upkeep(core: Core, *, offsite: bool = False) -> None:
    """Records what the last audit found, and when it and the last backups were made.

    `offsite`: whether some are to be sent elsewhere.
    """
    done = await audit_log.last_upkeep(core.db)
    for kind in kinds_of_upkeep(offsite=offsite):
        found = done.get(kind, UpkeepDone(kind=kind, at_ms=0))
        _upkeep_time.labels(kind).set(found.at_ms / 1000)
        _upkeep_failed.labels(kind).set(bool(found.problem))
        if kind is Upkeep.OFFSITE:
            _offsite_bytes.set(found.size_bytes)
    audit = done.get(Upkeep.AUDIT)
    for found_as in ("wrong", "pending", "unknown"):
        _audit_findings.labels(found_as).set(0 if audit is None else getattr(audit, found_as))


async def note_certificates(core: Core, own: WildcardFiles | None) -> None:
    """Records the certificates in the rows, and when the first of those in use ends.

    `own` are the operator's files, one more. Raises DatabaseUnavailable.
    """
    count, _ = await certificates.mark(core.db)
    wanted_ms = core.clock.now_ms() - UNWANTED_MS
    ends = [await certificates.first_end_ms(core.db, wanted_ms=wanted_ms)]
    if own is not None and own.not_after_ms:
        ends.append(own.not_after_ms)
    _certificates.set(count)
    _certificate_end.set(min((end for end in ends if end is not None), default=0) / 1000)
