"""Which runtime builds and runs apps: the sandbox of a root gateway, or the rootless one."""

import os
from collections.abc import Mapping
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.engine import Engine
from moorage.engines.host import probe
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.toolchains import Store
from moorage.engines.rootless import probe as rootless_probe
from moorage.engines.rootless.rootless import Rootless
from moorage.engines.sandbox.memory import Division
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import ConfigurationInvalid
from moorage.settings import Settings

_HTTP_PORTS = (80, 443)
_MIB = 1024 * 1024


def is_rootless(settings: Settings) -> bool:
    """Whether the gateway is to isolate without root. Raises ConfigurationInvalid."""
    modes = {"auto": os.geteuid() != 0, "root": False, "rootless": True}
    if settings.isolation not in modes:
        raise ConfigurationInvalid(f"isolation must be one of {', '.join(modes)}")
    return modes[settings.isolation]


def run_directory(settings: Settings, instance_id: str) -> Path:
    """Where sockets go: what is set, else below /run, else where this user's may be."""
    if settings.run_dir:
        return Path(settings.run_dir)
    if not is_rootless(settings):
        return Path("/run/moorage") / instance_id
    own = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    base = Path(own) if Path(own).is_dir() else Path(settings.data_dir) / "run"
    return base / "moorage" / instance_id


def make_runtime(
    settings: Settings,
    *,
    instance_id: str,
    run_dir: Path,
    tools: Mapping[str, Path],
    toolchains: Store,
    clock: Clock,
) -> Engine:
    """The runtime, not open yet. Raises ConfigurationInvalid."""
    configuration = HostConfiguration(
        state_dir=Path(settings.data_dir) / "apps",
        run_dir=run_dir,
        instance_id=instance_id,
        tools=dict(tools),
        build_env=settings.build_env,
        deny=settings.deny_networks,
        allow=settings.allow_networks,
        toolchains=toolchains,
        traffic=_traffic(settings),
        memory=memory_division(settings),
        disk_reserve_bytes=settings.disk_reserve_mib * _MIB,
        clock=clock,
        stop_grace_seconds=settings.stop_seconds,
    )
    if is_rootless(settings):
        return Rootless(
            configuration,
            accept_soft_limits=settings.accept_soft_limits,
            hierarchy=rootless_probe.delegated_hierarchy(),
        )
    return Sandbox(
        configuration,
        subnet=settings.app_subnet,
        wallet_cache_bytes=settings.build_cache_mib * _MIB,
        total_cache_bytes=settings.build_cache_total_mib * _MIB,
    )


def missing(settings: Settings) -> tuple[str, ...]:
    """What this machine lacks for isolating apps as configured: `what: command`."""
    if is_rootless(settings):
        return tuple(rootless_probe.missing())
    run_dir = Path(settings.run_dir or "/run/moorage/x")
    found = [*probe.missing_privileges(run_dir=run_dir), *probe.missing_programs()]
    if os.geteuid() == 0:  # nobody else may ask
        found += probe.missing_diagnosis()
    if probe.hierarchy() is None:
        found.append(probe.missing_hierarchy())
    return tuple(found)


def memory_division(settings: Settings) -> Division:
    """What the machine's memory is divided by."""
    return Division(
        reserve_bytes=settings.memory_reserve_mib * _MIB,
        builds_at_once=settings.builds_at_once,
        build_bytes=settings.build_memory_mib * _MIB,
    )


def _traffic(settings: Settings) -> ConnectionLimits:
    ports = _HTTP_PORTS if settings.tls else (settings.proxy_port,)
    return ConnectionLimits(
        app_connections=settings.app_connections,
        app_new_connections=settings.app_connects_per_second,
        app_bandwidth_mbit=settings.app_bandwidth_mbit,
        visitor_connections=settings.visitor_connections,
        proxy_ports=tuple(filter(None, ports)),
        trusted_proxies=settings.trusted_proxies,
    )
