"""Sets up what all apps share, and removes leftovers of earlier gateways."""

import errno
import logging
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path

from moorage.engines.disks import disk
from moorage.engines.disks.caches import Caches, Downloads
from moorage.engines.disks.disk import DiskTemplates
from moorage.engines.disks.space import Space
from moorage.engines.engine import Incident, IncidentKind, Limits, Resources
from moorage.engines.host import mounts as kernel
from moorage.engines.host import probe, processes
from moorage.engines.host.cgroup import Cgroups, open_groups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Incidents, Stage
from moorage.engines.host.environment import Toolchains
from moorage.engines.host.probe import EMPTY
from moorage.engines.isolation import bubblewrap, firewall, network, seccomp
from moorage.engines.isolation.firewall import Policy
from moorage.engines.isolation.slots import free, holds, slot_at
from moorage.engines.sandbox.deployment_directory import Host
from moorage.errors import IsolationMissing
from moorage.planning.python import lockpins

# uv installs Python packages, but plans and people call `pip`.
_PIP = """\
#!/bin/sh
[ "$1" != install ] || [ -d /app/.venv ] || uv venv --quiet /app/.venv || exit
export VIRTUAL_ENV=/app/.venv
exec uv pip "$@"
"""
# Plans for other tools' lock files call it, with the app's own Python.
_LOCKPINS = Path(lockpins.__file__).read_text()
SHIMS = {"pip": _PIP, "pip3": _PIP, "lockpins": _LOCKPINS}


def write_shims(directory: Path) -> dict[str, Path]:
    """Writes the programs into an existing directory; returns their paths by name."""
    for name, text in SHIMS.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return {name: directory / name for name in SHIMS}


logger = logging.getLogger(__name__)

TRIAL_LIMITS = Limits(
    memory_bytes=64 * 1024 * 1024, cpu_millis=1000, pids=16, disk_bytes=disk.MIN_BYTES
)


def open_host(
    configuration: HostConfiguration, *, subnet: str, caches: Caches, downloads_bytes: int
) -> Host:
    """Sets up what all apps share, and removes leftovers; blocks. Raises IsolationMissing."""
    missing = probe.missing_here(configuration.run_dir)
    hierarchy, servers = probe.hierarchy(), bubblewrap.find_servers()
    oom_score = probe.held_oom_score()
    if missing or hierarchy is None or oom_score is None:
        raise IsolationMissing(tuple(missing))
    templates = DiskTemplates(
        directory=configuration.state_dir / "templates", clock=configuration.clock
    )
    groups = Cgroups(hierarchy, f"moorage-{configuration.instance_id}")
    incidents = Incidents()
    host = Host(
        configuration=configuration,
        incidents=incidents,
        subnet=subnet,
        cgroups=groups,
        shares=open_groups(groups, configuration.memory),
        space=_space(configuration, groups, incidents),
        servers=servers,
        tools={name: _tool_path(configuration, name) for name in (*configuration.tools, *SHIMS)},
        seccomp=seccomp.filter_bytes(),
        oom_score=oom_score,
        templates=templates,
        caches=caches,
        downloads=Downloads(
            templates=templates,
            caches=caches,
            mount_points=configuration.run_dir / "disks",
            size_bytes=downloads_bytes,
        ),
        toolchains=Toolchains(
            store=configuration.toolchains, directory=configuration.run_dir / "toolchains"
        ),
    )
    _prepare_directories(host)
    _load_firewall(host)
    _bind_tools(configuration)
    _collect_output(host)
    sweep(host)
    return host


def _space(configuration: HostConfiguration, cgroups: Cgroups, incidents: Incidents) -> Space:
    return Space(
        cgroups=cgroups,
        deployments=configuration.deployments,
        mount_points=configuration.run_dir / "disks",
        reserve_bytes=configuration.disk_reserve_bytes,
        clock=configuration.clock,
        on_killed=lambda name: incidents.add(Incident(name, IncidentKind.NO_SPACE)),
    )


def close_host(host: Host) -> None:
    """Removes what all apps shared; they must be stopped."""
    host.collecting.end()
    host.cgroups.close()
    firewall.unload(_policy(host, ()))
    network.forget_unused(host.subnet, host.configuration.instance_id)
    _unbind_tools(host.configuration)
    host.toolchains.hide()
    _remove_directories(host)


def sweep(host: Host) -> None:
    """Removes everything of this gateway that belongs to no finished build."""
    thaw(host)
    for directory in host.directories():
        record = directory.record
        if record is None:
            directory.remove()
            continue
        if record.stage is Stage.BUILDING:
            directory.abandon()
    instance_id = host.configuration.instance_id
    kept = {directory.deployment_id: directory.record for directory in host.directories()}
    for group in host.cgroups.names():
        if group.partition("-")[2] not in kept:
            host.cgroups.remove(group)
    networks = {
        network.network_of(instance_id, slot_at(host.subnet, record.slot)).name
        for name, record in kept.items()
        if record is not None
        and record.slot is not None
        and holds(record.slot, host.directory(name).path)
    }
    for name in network.leftovers(firewall.interface_prefix(instance_id)) - networks:
        network.remove_leftover(name)
    for mount_point in host.mount_points.iterdir():
        if mount_point.name not in kept:
            disk.Disk(image=Path(os.devnull), mount_point=mount_point).unmount()
    host.caches.sweep()
    host.volumes.sweep(set(kept))
    for socket in host.run_dir.glob("*.sock"):
        if socket.stem not in kept:
            socket.unlink()


def measure(host: Host, busy: Collection[str]) -> Resources:
    """Measures what there is for apps; blocks. Somebody works on the deployments in `busy`."""
    in_use = {*busy, *os.listdir(host.mount_points)}  # noqa: PTH208 (done every two seconds)
    return Resources(
        memory_bytes=host.shares.apps_bytes,
        networks=free(host.subnet),
        free_bytes=disk.free_bytes(host.deployments),
        growth=host.growths.measure(host.deployments, in_use=in_use),
        volume_growth=host.volumes.growth(),
        held=host.space.held,
    )


def thaw(host: Host) -> None:
    """Thaws disks that were being copied when an earlier gateway crashed."""
    mount_points = [volume.disk.mount_point for volume in host.volumes.mounted()]
    for mount_point in (*host.mount_points.iterdir(), *mount_points):
        if os.path.ismount(mount_point) and kernel.thaw(mount_point):
            logger.warning("%s was frozen: its app continues", mount_point)


def _prepare_directories(host: Host) -> None:
    host.deployments.mkdir(parents=True, exist_ok=True, mode=0o700)
    host.run_dir.mkdir(parents=True, exist_ok=True)
    host.run_dir.chmod(0o711)
    host.mount_points.mkdir(exist_ok=True, mode=0o711)
    host.volumes.open()
    host.toolchains.directory.mkdir(exist_ok=True, mode=0o711)
    host.caches.directory.mkdir(exist_ok=True, mode=0o700)
    host.templates.clear()
    (host.run_dir / EMPTY).mkdir(exist_ok=True)


def _remove_directories(host: Host) -> None:
    """Removes directories one by one: rmdir fails on mounts, where rmtree would empty them."""
    for name in host.tools:
        (host.run_dir / "bin" / name).unlink()
    for directory in ("bin", "disks", "toolchains", EMPTY):
        (host.run_dir / directory).rmdir()
    host.volumes.close()
    host.run_dir.rmdir()


def _tool_path(configuration: HostConfiguration, name: str) -> Path:
    return configuration.run_dir / "bin" / name


def _bind_tools(configuration: HostConfiguration) -> None:
    """Mounts the tools below `run_dir`, as apps' users may not reach them, such as below /root."""
    _unbind_tools(configuration)
    directory = configuration.run_dir / "bin"
    directory.mkdir(exist_ok=True, mode=0o711)
    write_shims(directory)
    for name, source in configuration.tools.items():
        (directory / name).touch()
        kernel.mount(source.resolve(strict=True), directory / name, None, kernel.MS_BIND)


def _unbind_tools(configuration: HostConfiguration) -> None:
    for name in configuration.tools:
        path = _tool_path(configuration, name)
        try:
            kernel.unmount(path, detach=True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there
                raise


def _collect_output(host: Host) -> None:
    try:
        host.collecting.ensure()
    except OSError as error:
        raise IsolationMissing((str(error),)) from error


def keep_firewall(host: Host) -> None:
    """Reloads the firewall if somebody has flushed the machine's rules. Raises OSError.

    Starts no program while nobody has changed any rule.
    """
    host.filter.check(partial(_repair_firewall, host))


def _repair_firewall(host: Host) -> None:
    if not firewall.is_loaded(host.configuration.instance_id):
        logger.warning("the packet filter of the apps was gone: it is loaded again")
        firewall.load(_policy(host, _connected()))
    elif firewall.pass_docker(_policy(host, ())):
        logger.warning("Docker's packet filter dropped what apps send: it lets it pass again")


def _load_firewall(host: Host) -> None:
    connected = _connected()
    missing = probe.overlapping(host.subnet, connected) + probe.enable_forwarding()
    if missing:
        raise IsolationMissing(tuple(missing))
    try:
        firewall.load(_policy(host, connected))
        network.refuse_unused(host.subnet, host.configuration.instance_id)
    except OSError as error:
        raise IsolationMissing((f"the packet filter can't be loaded: {error}",)) from error


def _connected() -> tuple[str, ...]:
    return firewall.connected_networks(processes.run(["ip", "-json", "-4", "address"]))


def _policy(host: Host, connected: tuple[str, ...]) -> Policy:
    configuration = host.configuration
    return Policy(
        instance_id=configuration.instance_id,
        subnet=host.subnet,
        deny=(*connected, *configuration.deny),
        allow=configuration.allow,
        resolvers=host.servers,
        traffic=configuration.traffic,
    )
