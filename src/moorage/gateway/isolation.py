"""Makes the engine that builds and runs apps, from settings."""

from collections.abc import Mapping
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.engine import Engine
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.memory import Division
from moorage.engines.host.toolchains import Store
from moorage.engines.kind import EngineOptions
from moorage.engines.table import engine_kind
from moorage.settings import Settings

_HTTP_PORTS = (80, 443)
_MIB = 1024 * 1024


def run_directory(settings: Settings, instance_id: str) -> Path:
    """Returns the directory of sockets: the setting, else the default of the kind of engine."""
    if settings.run_dir:
        return Path(settings.run_dir)
    kind = engine_kind(settings.isolation)
    return kind.run_directory(Path(settings.data_dir)) / instance_id


def make_engine(
    settings: Settings,
    *,
    instance_id: str,
    run_dir: Path,
    tools: Mapping[str, Path],
    toolchains: Store,
    clock: Clock,
) -> Engine:
    """Returns the engine, not open yet. Raises ConfigurationInvalid."""
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
    options = EngineOptions(
        subnet=settings.app_subnet,
        wallet_cache_bytes=settings.build_cache_mib * _MIB,
        total_cache_bytes=settings.build_cache_total_mib * _MIB,
        docker_host=settings.docker_host,
        base_images=settings.base_images,
        image_registry=settings.image_registry,
        local_images=settings.local_images,
        accept_soft_limits=settings.accept_soft_limits,
    )
    return engine_kind(settings.isolation).make(configuration, options)


def missing(settings: Settings) -> tuple[str, ...]:
    """Returns what this machine lacks to isolate apps as configured: `what: command`."""
    return tuple(engine_kind(settings.isolation).missing(run_directory(settings, "x")))


def memory_division(settings: Settings) -> Division:
    """Returns how the machine's memory is divided."""
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
