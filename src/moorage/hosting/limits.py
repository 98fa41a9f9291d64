"""What apps, builds and jobs may use: computed from the settings, and what no operator sets."""

from moorage.engines.engine import Limits
from moorage.hosting.entrance.capacity import Policy, Quotas
from moorage.records.deployment import JobPlaces
from moorage.records.size import Size
from moorage.settings import Settings

COPIES_SECONDS = 300
"""The time over which a wallet's copies of disks are counted."""

STOP_SECONDS = 5
"""Between SIGTERM and SIGKILL: what ends well does so in less, and a switch waits for it."""

USAGE_DAYS = 90
"""How long usage is stored hour by hour: a quarter, for comparisons."""

FAILED_RETENTION_DAYS = 7
"""How long a project that never served keeps its name: somebody may fix it within a week."""

EXPORT_DAYS = 30
"""How long the last copy of an evicted project can be fetched."""

MAX_DOMAINS = 10
"""Domains of its own of one project; each costs certificates."""

RELEASES_KEPT = 3
"""Replaced versions of a project that can be rolled back to: each has its files on the disk. Of as
many that failed, and of as many that were given up, the logs are kept."""

DRAIN_SECONDS = 30
"""How long a version that was replaced may end what it was asked before: as proxies wait too."""

BUILD_CPU_MILLIS = 2_000
"""CPU of a build: package managers and compilers use two cores well, and seldom more."""

_BUILDS_OF_WALLET = 1  # of `builds_at_once`: so that others find a free place
_APP_PIDS = 256  # processes and threads; a JVM or a browser has some 100
_BUILD_PIDS = 512  # package managers and compilers work side by side
_JOBS_AT_ONCE = 8  # deployments; most of the time they wait for an app to answer
_MIB = 1024 * 1024
_MAX_BALLAST_BYTES = 64 * _MIB
_REQUESTS_PER_COPY = 3


def healthy_seconds(settings: Settings) -> int:
    """Returns how long an app that listens may take to answer with less than 500."""
    return settings.listen_seconds // 2


def wake_seconds(settings: Settings) -> int:
    """Returns how long a request waits for an app that is started, and may first have to stop.

    To take an app down takes longer than its own end: three times as long are left for it.
    """
    return settings.listen_seconds + healthy_seconds(settings) + 4 * STOP_SECONDS


def capacity_policy(settings: Settings) -> Policy:
    """Returns how much of the machine may be promised to apps."""
    return Policy(
        reserve_bytes=settings.disk_reserve_mib * _MIB,
        disk_overcommit=settings.disk_overcommit,
        memory_overcommit=settings.memory_overcommit,
    )


def job_places(settings: Settings) -> JobPlaces:
    """Returns how many jobs are carried out at the same time."""
    return JobPlaces(
        jobs=_JOBS_AT_ONCE,
        builds=settings.builds_at_once,
        builds_of_wallet=_BUILDS_OF_WALLET,
    )


def copies_limit(settings: Settings) -> int:
    """Returns how many disks of a wallet may be copied in COPIES_SECONDS."""
    return max(1, settings.requests_per_minute // _REQUESTS_PER_COPY)


def export_bytes(settings: Settings) -> int:
    """Returns what an export needs free: the reserve, the copies, and the archive of them."""
    largest = settings.size_list.largest
    return (settings.disk_reserve_mib + 2 * (largest.disk_mib + largest.volume_mib)) * _MIB


def ballast_bytes(settings: Settings) -> int:
    """Returns how much of the reserve a file takes, which goes when the disk is full."""
    return min(_MAX_BALLAST_BYTES, settings.disk_reserve_mib * _MIB // 4)


def quotas(settings: Settings) -> Quotas:
    """Returns what the operator allows."""
    return Quotas(listed_only=settings.listed_wallets_only, projects=settings.projects_per_wallet)


def app_limits(size: Size) -> Limits:
    """Returns what a running app of a size may use."""
    return Limits(
        memory_bytes=size.memory_mib * _MIB,
        cpu_millis=size.cpu_millis,
        pids=_APP_PIDS,
        disk_bytes=size.disk_mib * _MIB,
        volume_bytes=size.volume_mib * _MIB,
    )


def build_limits(settings: Settings) -> Limits:
    """Returns what a build may use; it writes to the app's own disk, which its size says."""
    return Limits(
        memory_bytes=settings.build_memory_mib * _MIB,
        cpu_millis=BUILD_CPU_MILLIS,
        pids=_BUILD_PIDS,
        disk_bytes=settings.app_disk_mib * _MIB,
    )
