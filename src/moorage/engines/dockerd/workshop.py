"""A Docker daemon that builds images for an engine whose apps run elsewhere, as in a cluster.

One on the gateway's own machine is held as the Docker engine holds its builds: each in a control
group, behind the firewall. One on another machine, reached over TLS, is its operator's to hold.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from moorage.engines.dockerd import firewall
from moorage.engines.dockerd.daemon import (
    Daemon,
    DaemonFailed,
    connect_anywhere,
    lacking,
    too_old,
)
from moorage.engines.dockerd.group import remove_everywhere
from moorage.engines.dockerd.images import BUILD_SUFFIX, ImageOptions, Images
from moorage.engines.host import tool
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.kernel.cgroup import Cgroups
from moorage.engines.host.kernel.memory import open_groups
from moorage.engines.host.local import repeat
from moorage.engines.host.network import probe
from moorage.engines.isolation import resolver
from moorage.engines.isolation.firewall import Policy
from moorage.errors import IsolationMissing
from moorage.threads import in_thread

_TEND_EVERY_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where a daemon is, and what its builds may reach."""

    docker_host: str
    certificates: str  # a directory with a client's, for a daemon on another machine
    subnet: str  # which no app has: the firewall names one
    deny: tuple[str, ...] = ()  # IPv4 networks, beside those of the configuration


@asynccontextmanager
async def opened_images(
    configuration: HostConfiguration, workshop: Workshop, options: ImageOptions
) -> AsyncIterator[Images]:
    """Gives the images of a daemon; nothing of them is on this machine afterwards.

    Raises IsolationMissing, ConfigurationInvalid.
    """
    async with AsyncExitStack() as stack:
        try:
            daemon = await connect_anywhere(workshop.docker_host, workshop.certificates)
        except DaemonFailed as error:
            raise IsolationMissing((str(error),)) from error
        stack.push_async_callback(daemon.close)
        if missing := await in_thread(missing_for_builds, daemon):
            raise IsolationMissing(tuple(missing))
        cgroups = None
        if daemon.is_here:
            cgroups = await _held(configuration, workshop, daemon, stack)
        images = Images(configuration, daemon, cgroups, options)
        await in_thread(_sweep, configuration.run_dir)
        await images.collect(set())
        yield images


def missing_for_builds(daemon: Daemon) -> list[str]:
    """Returns what a daemon, or the gateway's machine beside it, lacks for builds of strangers."""
    missing = []
    if not tool.found("docker"):
        missing.append("Docker's client is not installed: apt-get install docker-cli docker-buildx")
    if not daemon.is_here:
        return [*missing, *too_old(daemon.info)]
    if os.geteuid() != 0:
        missing.append(probe.NO_ROOT)
    missing += [*probe.missing_programs(), *lacking(daemon.info, daemon.pid)]
    if probe.hierarchy() is None:
        missing.append(probe.missing_hierarchy())
    if not resolver.find_servers():
        missing.append(probe.MISSING_RESOLVER)
    return missing


async def _held(
    configuration: HostConfiguration, workshop: Workshop, daemon: Daemon, stack: AsyncExitStack
) -> Cgroups:
    """Makes the control groups of builds and loads their firewall, until the stack is left."""
    hierarchy = probe.hierarchy()
    if hierarchy is None:
        raise IsolationMissing((probe.missing_hierarchy(),))
    cgroups = Cgroups(hierarchy, f"moorage-{configuration.instance_id}")
    await in_thread(open_groups, cgroups, configuration.memory)
    stack.callback(remove_everywhere, cgroups.root)
    stack.callback(cgroups.close)
    policy = partial(_policy, configuration, workshop, daemon)
    try:
        await in_thread(lambda: firewall.load(policy(), daemon))
    except OSError as error:
        raise IsolationMissing((f"the firewall of builds can't be loaded: {error}",)) from error
    stack.callback(lambda: firewall.unload(policy(), daemon))
    keep = partial(firewall.keep, configuration.instance_id, daemon, policy)
    keeping = asyncio.create_task(repeat(keep, every_seconds=_TEND_EVERY_SECONDS))
    stack.push_async_callback(_ended, keeping)
    return cgroups


def _policy(configuration: HostConfiguration, workshop: Workshop, daemon: Daemon) -> Policy:
    """Returns what builds may reach; blocks."""
    return Policy(
        instance_id=configuration.instance_id,
        subnet=workshop.subnet,
        deny=(*firewall.connected(daemon), *configuration.deny, *workshop.deny),
        allow=configuration.allow,
        resolvers=resolver.find_servers(),
        traffic=configuration.traffic,
        build_bridge=firewall.DOCKER_BRIDGE,
    )


def _sweep(run_dir: Path) -> None:
    """Removes the files, secrets among them, of builds of a gateway that was killed."""
    for build in run_dir.glob(f"*{BUILD_SUFFIX}"):
        shutil.rmtree(build)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
