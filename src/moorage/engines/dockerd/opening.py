"""Reaches a builder by its address, and holds what it runs where that is this machine.

A Docker daemon on the gateway's own machine is held as the Docker engine holds its builds: each in
a control group, behind the firewall. A daemon on another machine, reached over TLS, and a buildkitd
are their operator's to hold.
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

from moorage.engines.dockerd import buildx, firewall
from moorage.engines.dockerd.builder import Builder, BuilderOptions, BuildKit, make_empty, sweep
from moorage.engines.dockerd.daemon import (
    Daemon,
    DaemonFailed,
    connect_anywhere,
    environment,
    lacking,
    too_old,
)
from moorage.engines.dockerd.firewall import remove_everywhere
from moorage.engines.host import probe, processes
from moorage.engines.host.cgroup import Cgroups, open_groups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.local import repeat
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.firewall import Policy
from moorage.errors import ConfigurationInvalid, IsolationMissing
from moorage.threads import in_thread

_BUILDKIT = "buildkit+"  # before the address of a buildkitd
_NAME = "moorage"  # of a buildkitd, for buildx
_TEND_EVERY_SECONDS = 5.0
NO_CLIENT = "Docker's client is not installed: apt-get install docker-cli docker-buildx"


@dataclass(frozen=True, kw_only=True)
class BuilderPlace:
    """Where a builder is, and what its builds may reach."""

    address: str  # unix:///… or tcp://… of a Docker daemon, after `buildkit+` of a buildkitd
    certificates: str  # a directory with ca.pem, cert.pem and key.pem, for tcp://
    subnet: str  # which no app has: the firewall names one
    deny: tuple[str, ...] = ()  # IPv4 networks, beside those of the configuration

    @property
    def is_buildkitd(self) -> bool:
        """Whether it is a buildkitd, and no Docker daemon."""
        return self.address.startswith(_BUILDKIT)

    @property
    def is_here(self) -> bool:
        """Whether it is a Docker daemon on this machine, whose builds the gateway bounds."""
        return self.address.startswith("unix://")


@asynccontextmanager
async def opened_builder(
    configuration: HostConfiguration, place: BuilderPlace, options: BuilderOptions
) -> AsyncIterator[Builder]:
    """Gives a builder. Raises IsolationMissing, ConfigurationInvalid."""
    async with AsyncExitStack() as stack:
        opening = _buildkitd if place.is_buildkitd else _docker
        buildkit = await opening(configuration, place, stack)
        await in_thread(sweep, configuration.run_dir)
        yield Builder(configuration, buildkit, options)


async def missing_for_builds(place: BuilderPlace, scratch: Path) -> list[str]:
    """Returns what a builder, or this machine beside it, lacks for builds of strangers.

    `scratch` is an empty directory. Raises ConfigurationInvalid.
    """
    if not place.is_buildkitd:
        try:
            daemon = await connect_anywhere(place.address, place.certificates)
        except DaemonFailed as error:
            return [str(error)]
        try:
            return await in_thread(_missing, daemon)
        finally:
            await daemon.close()
    if not processes.found("docker"):
        return [NO_CLIENT]
    try:
        buildkit = await _named(place, scratch)
        await buildx.run(buildx.usage(buildkit.name), buildkit.environment)
    except buildx.BuilderFailed as error:
        return [str(error)]
    return []


def _missing(daemon: Daemon) -> list[str]:
    missing = [] if processes.found("docker") else [NO_CLIENT]
    if not daemon.is_here:
        return [*missing, *too_old(daemon.info)]
    if os.geteuid() != 0:
        missing.append(probe.NO_ROOT)
    missing += [*probe.missing_programs(), *lacking(daemon.info, daemon.pid)]
    if probe.hierarchy() is None:
        missing.append(probe.missing_hierarchy())
    if not bubblewrap.find_servers():
        missing.append(probe.MISSING_RESOLVER)
    return missing


async def _buildkitd(
    configuration: HostConfiguration, place: BuilderPlace, stack: AsyncExitStack
) -> BuildKit:
    if not processes.found("docker"):
        raise IsolationMissing((NO_CLIENT,))
    directory = configuration.run_dir / _NAME
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return await _named(place, directory)


async def _named(place: BuilderPlace, directory: Path) -> BuildKit:
    """Gives a buildkitd a name, in a directory for what buildx remembers.

    Raises ConfigurationInvalid.
    """
    address = place.address.removeprefix(_BUILDKIT)
    certificates = None
    if address.startswith("tcp://"):
        certificates = Path(place.certificates)
        if not all((certificates / f"{it}.pem").is_file() for it in ("ca", "cert", "key")):
            raise ConfigurationInvalid(
                f"kubernetes_credentials: {place.certificates!r} must have ca.pem, "
                "cert.pem and key.pem"
            )
    elif not address.startswith("unix:///"):
        raise ConfigurationInvalid(
            f"kubernetes_builder: {place.address!r} must be unix:///path or tcp://host:port, "
            f"after {_BUILDKIT} for a buildkitd"
        )
    await in_thread(make_empty, directory)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "BUILDX_CONFIG": str(directory),
    }
    await buildx.run(buildx.create(_NAME, address, certificates), environment)
    return BuildKit(environment=environment, name=_NAME)


async def _docker(
    configuration: HostConfiguration, place: BuilderPlace, stack: AsyncExitStack
) -> BuildKit:
    try:
        daemon = await connect_anywhere(place.address, place.certificates)
    except DaemonFailed as error:
        raise IsolationMissing((str(error),)) from error
    stack.push_async_callback(daemon.close)
    if missing := await in_thread(_missing, daemon):
        raise IsolationMissing(tuple(missing))
    cgroups = None
    if daemon.is_here:
        cgroups = await _held(configuration, place, daemon, stack)
    return docker_buildkit(daemon, cgroups)


def docker_buildkit(daemon: Daemon, cgroups: Cgroups | None) -> BuildKit:
    """Returns the BuildKit of a Docker daemon."""
    root = Path(daemon.info.get("DockerRootDir", "/"))
    return BuildKit(
        environment={**environment(daemon), "HOME": str(Path.home())},
        cgroups=cgroups,
        disk=root if daemon.is_here else None,
        keeps_images=True,
    )


async def _held(
    configuration: HostConfiguration, place: BuilderPlace, daemon: Daemon, stack: AsyncExitStack
) -> Cgroups:
    """Makes the control groups of builds and loads their firewall, until the stack is left."""
    hierarchy = probe.hierarchy()
    if hierarchy is None:
        raise IsolationMissing((probe.missing_hierarchy(),))
    cgroups = Cgroups(hierarchy, f"moorage-{configuration.instance_id}")
    await in_thread(open_groups, cgroups, configuration.memory)
    stack.callback(remove_everywhere, cgroups.root)
    stack.callback(cgroups.close)
    policy = partial(_policy, configuration, place, daemon)
    try:
        await in_thread(lambda: firewall.load(policy(), daemon))
    except OSError as error:
        raise IsolationMissing((f"the firewall of builds can't be loaded: {error}",)) from error
    stack.callback(lambda: firewall.unload(policy(), daemon))
    keep = partial(firewall.keep, configuration.instance_id, daemon, policy)
    keeping = asyncio.create_task(repeat(keep, every_seconds=_TEND_EVERY_SECONDS))
    stack.push_async_callback(_ended, keeping)
    return cgroups


def _policy(configuration: HostConfiguration, place: BuilderPlace, daemon: Daemon) -> Policy:
    """Returns what builds may reach; blocks."""
    return Policy(
        instance_id=configuration.instance_id,
        subnet=place.subnet,
        deny=(*firewall.connected(daemon), *configuration.deny, *place.deny),
        allow=configuration.allow,
        resolvers=bubblewrap.find_servers(),
        traffic=configuration.traffic,
        build_bridge=firewall.DOCKER_BRIDGE,
    )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
