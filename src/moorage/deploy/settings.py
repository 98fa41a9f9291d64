"""The settings that this room reads."""

import msgspec

from moorage.deploy.entrance.capacity import Policy
from moorage.deploy.entrance.house_rules import HouseRules
from moorage.engines.engine import Limits
from moorage.records.deployment import JobPlaces

_MIB = 1024 * 1024
_MAX_BALLAST_BYTES = 64 * _MIB
_REQUESTS_PER_COPY = 3

COPIES_SECONDS = 300
"""The time over which a wallet's copies of disks are counted."""


class DeploySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each under its name in `moorage.settings`, which documents it."""

    base_domain: str
    former_domains: tuple[str, ...]
    requests_per_minute: int
    app_memory_mib: int
    app_cpu_millis: int
    app_pids: int
    app_disk_mib: int
    app_volume_mib: int
    build_memory_mib: int
    build_cpu_millis: int
    build_pids: int
    build_seconds: int
    builds_at_once: int
    builds_per_wallet: int
    deploys_at_once: int
    disk_reserve_mib: int
    disk_overcommit: float
    memory_overcommit: float
    listen_seconds: int
    healthy_seconds: int
    drain_seconds: int
    stop_seconds: int
    sleep_after_seconds: int
    releases_kept: int
    usage_days: int
    retention_days: int
    failed_retention_days: int
    export_days: int
    domains_per_project: int
    listed_wallets_only: bool
    projects_per_wallet: int
    dns_servers: tuple[str, ...]

    @property
    def base_domains(self) -> tuple[str, ...]:
        """The domains below which every app is served."""
        return (self.base_domain, *self.former_domains)

    @property
    def wake_seconds(self) -> int:
        """How long a request waits for an app that is started, and may first have to stop.

        To take an app down takes longer than its own end: three times as long are left for it.
        """
        return self.listen_seconds + self.healthy_seconds + 4 * self.stop_seconds

    @property
    def capacity_policy(self) -> Policy:
        """How much of the machine may be promised to apps."""
        return Policy(
            reserve_bytes=self.disk_reserve_mib * _MIB,
            disk_overcommit=self.disk_overcommit,
            memory_overcommit=self.memory_overcommit,
        )

    @property
    def job_places(self) -> JobPlaces:
        """How many jobs are carried out at the same time."""
        return JobPlaces(
            jobs=self.deploys_at_once,
            builds=self.builds_at_once,
            builds_of_wallet=self.builds_per_wallet,
        )

    @property
    def copies_limit(self) -> int:
        """How many disks of a wallet may be copied in COPIES_SECONDS."""
        return max(1, self.requests_per_minute // _REQUESTS_PER_COPY)

    @property
    def export_bytes(self) -> int:
        """What must be free for an export: the reserve, the copies, and the archive of them."""
        return (self.disk_reserve_mib + 2 * (self.app_disk_mib + self.app_volume_mib)) * _MIB

    @property
    def ballast_bytes(self) -> int:
        """How much of the reserve a file takes, which goes when the disk is full."""
        return min(_MAX_BALLAST_BYTES, self.disk_reserve_mib * _MIB // 4)

    @property
    def house_rules(self) -> HouseRules:
        """What the operator allows."""
        return HouseRules(listed_only=self.listed_wallets_only, projects=self.projects_per_wallet)

    @property
    def app_limits(self) -> Limits:
        """What a running app may use."""
        return Limits(
            memory_bytes=self.app_memory_mib * _MIB,
            cpu_millis=self.app_cpu_millis,
            pids=self.app_pids,
            disk_bytes=self.app_disk_mib * _MIB,
            volume_bytes=self.app_volume_mib * _MIB,
        )

    @property
    def build_limits(self) -> Limits:
        """What a build may use; it writes to the app's own disk."""
        return Limits(
            memory_bytes=self.build_memory_mib * _MIB,
            cpu_millis=self.build_cpu_millis,
            pids=self.build_pids,
            disk_bytes=self.app_disk_mib * _MIB,
        )
