"""The engine that builds and runs apps, made from settings; which deployments each one has."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import msgspec

from moorage.clock import Clock
from moorage.content.store import open_content
from moorage.engines.engine import Engine
from moorage.engines.host.cgroup import Division
from moorage.engines.host.configuration import DEPLOYMENTS, ConnectionLimits, HostConfiguration
from moorage.engines.host.environment import Store
from moorage.engines.kind import ClusterOptions, EngineKind, EngineOptions
from moorage.engines.pair import EnginePair
from moorage.engines.table import ENGINES, engine_kind
from moorage.errors import ConfigurationInvalid
from moorage.hosting.limits import STOP_SECONDS, app_limits, build_limits
from moorage.loop import Keeps, always
from moorage.planning.toolbox import Toolbox
from moorage.settings import Settings
from moorage.storage.apps import deployments
from moorage.storage.database import Database


async def require_open_engines(db: Database, opened: Mapping[str, Engine]) -> None:
    """Raises ConfigurationInvalid if projects serve from an engine that is not open.

    Their apps would not be started.
    """
    elsewhere = Counter(placed.engine for placed in await deployments.placed(db))
    for name, projects in elsewhere.items():
        if name and name not in opened:
            raise ConfigurationInvalid(
                f"{projects} projects are on the engine {name}. {_way(name)}"
            )


def _way(name: str) -> str:
    """Returns what to do about projects on an engine that is not open."""
    if name not in {kind.name for kind in ENGINES}:
        return (
            "This version of Moorage does not have it: run the version that has, let their owners "
            "save what they need, delete them with `moorage operator evict`, and start this one."
        )
    return (
        f'Beside isolation, set moving_from = "{name}" to keep them running; '
        "`moorage operator engine move --all` moves them."
    )


_MIB = 1024 * 1024

_WALLET_CACHE_BYTES = 1024 * _MIB
"""What builds of a wallet keep for later ones: a large app's packages fit in."""

_MAX_CACHE_BYTES = 10 * 1024 * _MIB
"""The same for all wallets together: ten that build often."""

_LOCAL = "local"
"""Among `dockerfile_registries`: any image that is on this machine."""

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_DOWNLOADS_BYTES = 4096 * _MIB
"""The disk on which one build downloads; it takes room only as it is written."""

_NEW_CONNECTIONS = 200
"""A second, by an app, into the world: more than crawlers need, less than a scan makes."""

_APPS_PER_WALLET = 20
"""That run at once in a cluster; a quota holds a wallet to it."""


def run_directory(settings: Settings, instance_id: str) -> Path:
    """Returns the directory of sockets: the setting, else the default of the kind of engine.

    As long as projects leave an engine it is that one's, where its apps have their sockets.
    """
    if settings.run_dir:
        return Path(settings.run_dir)
    kind = kinds(settings)[-1]
    return kind.run_directory(Path(settings.data_dir)) / instance_id


def make_engine(
    settings: Settings,
    *,
    instance_id: str,
    run_dir: Path,
    tools: Mapping[str, Path],
    toolchains: Store,
    clock: Clock,
    keeps: Keeps | None = always,
) -> Engine:
    """Returns the engine, not open yet; with `moving_from` a pair. Raises ConfigurationInvalid.

    `keeps` says whether this gateway still keeps the apps; without it the engine is only asked.
    `run_dir` is for mounts and sockets; those of a further
    engine lie beside it.
    """
    made = []
    for kind in kinds(settings):
        configuration = HostConfiguration(
            state_dir=Path(settings.data_dir) / "apps",
            run_dir=run_dir if kind.folder == DEPLOYMENTS else run_dir.with_name(kind.folder),
            instance_id=own_instance_id(instance_id, kind),
            tools=dict(tools),
            build_env=settings.build_env,
            deny=settings.deny_networks,
            allow=settings.allow_networks,
            toolchains=toolchains,
            traffic=_traffic(settings),
            memory=memory_division(settings),
            disk_reserve_bytes=settings.disk_reserve_mib * _MIB,
            clock=clock,
            stop_grace_seconds=STOP_SECONDS,
            folder=kind.folder,
            content=None
            if kind.machine_bound
            else open_content(settings.content_url, settings.content_credentials_file),
            volume_mounts=run_dir / "volumes",
        )
        options = replace(_options(settings, kind), keeps=keeps)
        made.append(kind.make(configuration, options))
    if len(made) == 1:
        return made[0]
    on_this_machine = all(kind.machine_bound for kind in kinds(settings))
    return EnginePair(own=made[0], leaving=made[1], shares_volumes=on_this_machine)


def is_machine_bound(settings: Settings) -> bool:
    """Returns whether apps, or those that move away still, run on the gateway's machine."""
    return any(kind.machine_bound for kind in kinds(settings))


def has_several_proxies(settings: Settings) -> bool:
    """Returns whether other gateways, perhaps on other machines, have proxies of their own."""
    return bool(settings.gateway_name) and not is_machine_bound(settings)


def reuses_addresses(settings: Settings) -> bool:
    """Returns whether the address of an app that ended may soon be another app's."""
    return not all(kind.machine_bound for kind in kinds(settings))


def kinds(settings: Settings) -> tuple[EngineKind, ...]:
    """Returns the gateway's own kind of engine, then the one that its projects are leaving.

    Raises ConfigurationInvalid.
    """
    own = engine_kind(settings.isolation)
    if not settings.moving_from:
        return (own,)
    leaving = engine_kind(settings.moving_from, setting="moving_from")
    if leaving.folder == own.folder:
        raise ConfigurationInvalid(
            f"moving_from: projects can't move from {leaving.name} to {own.name}; set isolation "
            "to the engine that they move to."
        )
    return own, leaving


def engines_of(settings: Settings, engine: Engine) -> dict[str, Engine]:
    """Returns the engines that `make_engine` made, by the names of their kinds."""
    made = (engine.own, engine.leaving) if isinstance(engine, EnginePair) else (engine,)
    return {kind.name: each for kind, each in zip(kinds(settings), made, strict=True)}


def own_instance_id(instance_id: str, kind: EngineKind) -> str:
    """Returns what an engine's namespaces, filters and images are named after on the machine.

    Engines that a gateway may have at the same time have different ones.
    """
    if kind.folder == DEPLOYMENTS:
        return instance_id
    return hashlib.blake2b(f"{instance_id} {kind.folder}".encode(), digest_size=3).hexdigest()


def _options(settings: Settings, kind: EngineKind) -> EngineOptions:
    try:
        lower, upper = map(str, ip_network(settings.app_subnet).subnets())
    except ValueError as error:
        raise ConfigurationInvalid(f"app_subnet: {error}") from error
    return EngineOptions(
        subnet=lower if kind.folder == DEPLOYMENTS else upper,
        wallet_cache_bytes=_WALLET_CACHE_BYTES,
        total_cache_bytes=_total_cache_bytes(settings),
        downloads_bytes=_DOWNLOADS_BYTES,
        docker_host=settings.docker_host,
        base_images=settings.base_images,
        local_images=_LOCAL in settings.dockerfile_registries,
        dockerfile_registries=tuple(
            each for each in settings.dockerfile_registries if each != _LOCAL
        ),
        cluster=_cluster(settings),
    )


def _cluster(settings: Settings) -> ClusterOptions:
    return ClusterOptions(
        app=app_limits(settings.size_list.largest),
        build=build_limits(settings),
        apps_per_wallet=_APPS_PER_WALLET,
        config=settings.kubernetes_config,
        prefix=settings.kubernetes_namespace,
        registry=settings.kubernetes_registry,
        registry_credentials=settings.kubernetes_credential("registry.json"),
        pull_credentials=settings.kubernetes_credential("pull.json"),
        builder=settings.kubernetes_builder,
        builder_certificates=settings.kubernetes_credentials,
        own_image=settings.kubernetes_own_image,
        runtime_class=settings.kubernetes_runtime_class,
        user_namespaces=settings.kubernetes_user_namespaces,
        storage_class=settings.kubernetes_storage_class,
        resolvers=settings.kubernetes_resolvers,
        gateway_namespace=_own_namespace(settings),
        gateway_networks=settings.kubernetes_gateway_networks,
    )


def _total_cache_bytes(settings: Settings) -> int:
    """Returns what builds of all wallets may keep: no more than a quarter of the disk."""
    data_dir = Path(settings.data_dir)
    place = next(each for each in (data_dir, *data_dir.parents) if each.exists())
    return min(_MAX_CACHE_BYTES, shutil.disk_usage(place).total // 4)


def _own_namespace(settings: Settings) -> str:
    """Returns the namespace of the gateway's own pod; "" where it is outside the cluster."""
    if settings.kubernetes_config or not _NAMESPACE_FILE.exists():
        return ""
    return _NAMESPACE_FILE.read_text().strip()


def offered(settings: Settings) -> Callable[[Toolbox], Toolbox]:
    """Returns what makes of the machine's toolbox the one of the gateway's apps."""
    kind = engine_kind(settings.isolation)
    options = _options(settings, kind)
    return lambda found: msgspec.structs.replace(
        kind.offered(found, options), disk_mib=settings.app_disk_mib
    )


def missing(settings: Settings) -> tuple[str, ...]:
    """Returns what this machine lacks to isolate apps as configured: `what: command`."""
    run_dir = run_directory(settings, "x")
    lacking = (each for kind in kinds(settings) for each in kind.missing(run_dir))
    return tuple(dict.fromkeys(lacking))


def memory_division(settings: Settings) -> Division:
    """Returns how the machine's memory is divided."""
    return Division(
        reserve_bytes=settings.memory_reserve_mib * _MIB,
        builds_at_once=settings.builds_at_once,
        build_bytes=settings.build_memory_mib * _MIB,
    )


def _traffic(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        app_new_connections=_NEW_CONNECTIONS, app_bandwidth_mbit=settings.app_bandwidth_mbit
    )
