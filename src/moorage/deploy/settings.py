"""The settings that this room reads."""

import msgspec

from moorage.engines.engine import Limits

_MIB = 1024 * 1024


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
    certificates_per_wallet: int
    domains_per_project: int
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
