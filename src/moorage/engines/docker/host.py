"""Sets up what all apps share, and removes leftovers of earlier gateways."""

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from moorage.engines.disks.disk import free_bytes
from moorage.engines.docker import container, network
from moorage.engines.docker.container import INSTANCE_LABEL, Surroundings
from moorage.engines.docker.deployment_directory import PROXY_GROUP, Host
from moorage.engines.docker.output import Followers
from moorage.engines.dockerd import daemon as daemons
from moorage.engines.dockerd import firewall
from moorage.engines.dockerd.builder import sweep as sweep_builds
from moorage.engines.dockerd.daemon import Daemon, DaemonFailed, calling
from moorage.engines.dockerd.firewall import remove_everywhere
from moorage.engines.host import probe
from moorage.engines.host.cgroup import APPS, Cgroups, Shares, open_groups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.firewall import Policy
from moorage.errors import IsolationMissing
from moorage.threads import in_thread

logger = logging.getLogger(__name__)


async def open_host(
    configuration: HostConfiguration,
    *,
    docker_host: str,
    subnet: str,
    ended: Callable[[str], None],
) -> Host:
    """Reaches Docker, sets up what all apps share, removes leftovers.

    `ended` is called with a deployment's id when its app has ended. Raises IsolationMissing.
    """
    missing = await in_thread(probe.missing_here, configuration.run_dir)
    try:
        daemon = await daemons.connect(docker_host)
    except DaemonFailed as error:
        raise IsolationMissing((*missing, f"{error}: systemctl start docker")) from error
    try:
        missing += daemons.lacking(daemon.info, daemon.pid)
        if missing:
            raise IsolationMissing(tuple(missing))
        followers = Followers(daemon, configuration.clock, ended)
        host = await in_thread(_local, configuration, daemon, followers, subnet)
        await _join(host)
    except BaseException:
        await daemon.close()
        raise
    return host


async def _join(host: Host) -> None:
    """Makes the apps' network; the filter is there before, and so before any app."""
    try:
        await in_thread(load_firewall, host)
        await network.ensure(host.daemon, host.around.instance_id, host.subnet)
        await sweep(host)
    except OSError as error:
        raise IsolationMissing((f"apps' network can't be made: {error}",)) from error


def _local(
    configuration: HostConfiguration, daemon: Daemon, followers: Followers, subnet: str
) -> Host:
    hierarchy, instance_id = probe.hierarchy(), configuration.instance_id
    if hierarchy is None:
        raise IsolationMissing((probe.missing_hierarchy(),))
    cgroups = Cgroups(hierarchy, f"moorage-{instance_id}")
    servers = bubblewrap.find_servers()
    host = Host(
        configuration=configuration,
        daemon=daemon,
        followers=followers,
        subnet=subnet,
        cgroups=cgroups,
        shares=_shares(cgroups, configuration, daemon),
        servers=servers,
        tools={},
        around=Surroundings(
            instance_id=instance_id,
            network=network.network_name(instance_id),
            cgroup_parent=container.parent(instance_id, APPS, systemd=daemon.uses_systemd),
            resolvers=servers,
            oom_score=probe.held_oom_score() or 0,
        ),
    )
    host.deployments.mkdir(parents=True, exist_ok=True, mode=0o700)
    host.run_dir.mkdir(parents=True, exist_ok=True)
    host.run_dir.chmod(0o711)
    host.volumes.open()
    return host


def _shares(cgroups: Cgroups, configuration: HostConfiguration, daemon: Daemon) -> Shares:
    shares = open_groups(cgroups, configuration.memory)
    if daemon.uses_systemd:
        try:
            container.limit_slices(configuration.instance_id, shares)
        except OSError as error:
            raise IsolationMissing((f"systemd limits no slices: {error}",)) from error
    return shares


def close_host(host: Host) -> None:
    """Removes what all apps shared but the network; they must be stopped. Blocks."""
    host.cgroups.close()
    remove_everywhere(host.cgroups.root)
    firewall.unload(policy(host), host.daemon)
    host.volumes.close()
    host.run_dir.rmdir()
    with contextlib.suppress(OSError):  # it is another engine's, or the one that was just removed
        host.volumes.mounts.parent.rmdir()


def load_firewall(host: Host) -> None:
    """Loads the firewall; blocks. Raises OSError."""
    firewall.load(policy(host), host.daemon)


def keep_firewall(host: Host) -> None:
    """Reloads the firewall if somebody has flushed the machine's rules; blocks. Raises OSError."""
    firewall.keep(host.configuration.instance_id, host.daemon, partial(policy, host))


def policy(host: Host) -> Policy:
    """Returns what apps and builds may reach; blocks."""
    configuration = host.configuration
    return Policy(
        instance_id=configuration.instance_id,
        subnet=host.subnet,
        deny=(*firewall.connected(host.daemon), *configuration.deny),
        allow=configuration.allow,
        resolvers=host.servers,
        traffic=configuration.traffic,
        build_bridge=firewall.DOCKER_BRIDGE,
    )


async def sweep(host: Host) -> None:
    """Removes everything of this gateway that belongs to no finished build, or started app."""
    kept = await in_thread(_sweep_directories, host)
    started = {it.record.container_id for it in host.directories() if it.record is not None}
    label = f"{INSTANCE_LABEL}={host.around.instance_id}"
    async with calling():
        for found in await host.daemon.docker.containers.list(
            all="true", filters=f'{{"label": ["{label}"]}}'
        ):
            if found["Id"] not in started:  # a gateway ended between making and recording it
                await found.delete(force=True, v=True)
    await in_thread(host.volumes.sweep, kept)


def _sweep_directories(host: Host) -> set[str]:
    """Removes unfinished deployments, and what is left of their apps; returns the others' ids."""
    for directory in host.directories():
        record = directory.record
        if record is None:
            directory.remove()
        elif record.stage is Stage.BUILDING:
            directory.abandon()
    kept = host.known()
    for group in host.cgroups.names():
        if group.startswith(PROXY_GROUP) and group.removeprefix(PROXY_GROUP) not in kept:
            host.cgroups.remove(group)
    for socket in host.run_dir.glob("*.sock"):
        if socket.stem not in kept:
            socket.unlink()
    sweep_builds(host.run_dir)
    return kept


def free_disk_bytes(host: Host) -> int:
    """Returns the space that both images and volumes can still take; blocks."""
    root = Path(str(host.daemon.info.get("DockerRootDir", "/")))
    return min(free_bytes(place) for place in (host.deployments, root) if place.is_dir())
