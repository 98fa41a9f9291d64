"""The machine as a gateway takes hold of it: what all apps share, the trial run, the sweep."""

import errno
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock
from moorage.errors import DeployFailed, IsolationMissing
from moorage.planning.plan import Plan, Stack
from moorage.runtimes.logs.collecting import Collecting
from moorage.runtimes.runtime import BuildSpec, Limits
from moorage.runtimes.sandbox import (
    build,
    disk,
    firewall,
    kernel,
    network,
    probe,
    resolver,
    seccomp,
    shims,
    tool,
)
from moorage.runtimes.sandbox.caches import Caches
from moorage.runtimes.sandbox.cgroup import Cgroups
from moorage.runtimes.sandbox.downloads import Downloads
from moorage.runtimes.sandbox.firewall import Policy
from moorage.runtimes.sandbox.place import Machine
from moorage.runtimes.sandbox.record import Stage
from moorage.runtimes.sandbox.shims import SHIMS
from moorage.runtimes.sandbox.slots import slot_at
from moorage.runtimes.sandbox.threads import in_thread
from moorage.runtimes.sandbox.toolchains import Store, Toolchains
from moorage.runtimes.traffic import Traffic

logger = logging.getLogger(__name__)

_EMPTY = "empty"  # what a trial run builds
_TRIAL_LIMITS = Limits(
    memory_bytes=64 * 1024 * 1024, cpu_millis=1000, pids=16, disk_bytes=disk.MIN_BYTES
)
_TRIAL_PLAN = Plan(
    stack=Stack.CUSTOM, directory="", install=None, build="/bin/true", start="/bin/true",
    port=1, build_env={}, run_env={}, because=(),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What the gateway asks for, before the machine was looked at."""

    state_dir: Path
    run_dir: Path
    instance_id: str
    tools: dict[str, Path]
    build_env: dict[str, str]
    subnet: str
    deny: tuple[str, ...]
    allow: tuple[str, ...]
    wallet_cache_bytes: int
    total_cache_bytes: int
    toolchains: Store | None
    traffic: Traffic
    clock: Clock


def open_machine(configuration: Configuration) -> Machine:
    """Set up what all apps share and sweep up; blocks. Raises IsolationMissing."""
    missing = [
        *probe.missing_privileges(run_dir=configuration.run_dir),
        *probe.missing_programs(),
        *probe.missing_diagnosis(),
    ]
    hierarchy, servers = probe.hierarchy(), resolver.find_servers()
    if hierarchy is None:
        missing.append(probe.missing_hierarchy())
    if not servers:
        missing.append(probe.MISSING_RESOLVER)
    if missing or hierarchy is None:
        raise IsolationMissing(tuple(missing))
    caches = Caches(
        directory=configuration.state_dir / "caches",
        wallet_bytes=configuration.wallet_cache_bytes,
        total_bytes=configuration.total_cache_bytes,
        clock=configuration.clock,
    )
    machine = Machine(
        state_dir=configuration.state_dir,
        run_dir=configuration.run_dir,
        instance_id=configuration.instance_id,
        subnet=configuration.subnet,
        cgroups=Cgroups(hierarchy, f"moorage-{configuration.instance_id}"),
        servers=servers,
        tools={name: _tool_path(configuration, name) for name in (*configuration.tools, *SHIMS)},
        seccomp=seccomp.filter_bytes(),
        build_env=configuration.build_env,
        caches=caches,
        downloads=Downloads(caches=caches, mount_points=configuration.run_dir / "disks"),
        toolchains=Toolchains(
            store=configuration.toolchains, directory=configuration.run_dir / "toolchains"
        ),
        traffic=configuration.traffic,
        clock=configuration.clock,
        collecting=Collecting(
            deployments=configuration.state_dir / "deployments",
            state_dir=configuration.state_dir,
            run_dir=configuration.run_dir,
        ),
    )
    _prepare_directories(machine)
    _open_cgroups(machine)
    _load_firewall(configuration, machine)
    _bind_tools(configuration)
    _collect_output(machine)
    sweep(machine)
    return machine


def close_machine(machine: Machine, configuration: Configuration) -> None:
    """Take away what all apps shared; they must be stopped."""
    machine.collecting.end()
    machine.cgroups.close()
    firewall.unload(_policy(configuration, machine, ()))
    _unbind_tools(configuration)
    machine.toolchains.hide()
    _remove_directories(machine)


def sweep(machine: Machine) -> None:
    """Remove all that bears this gateway's name and that no finished build accounts for."""
    thaw(machine)
    for place in machine.places():
        record = place.record
        if record is None:
            place.remove()
            continue
        place.reclaim(record)
        if record.stage is Stage.BUILDING:
            place.abandon(record)
    kept = {place.deployment_id: place.record for place in machine.places()}
    for group in machine.cgroups.names():
        if group.partition("-")[2] not in kept:
            machine.cgroups.remove(group)
    networks = {
        network.network_of(machine.instance_id, slot_at(machine.subnet, record.slot)).name
        for record in kept.values()
        if record is not None and record.slot is not None
    }
    for name in network.leftovers(firewall.interface_prefix(machine.instance_id)) - networks:
        network.remove_leftover(name)
    for mount_point in machine.mount_points.iterdir():
        if mount_point.name not in kept:
            disk.Disk(image=Path(os.devnull), mount_point=mount_point).unmount()
    machine.caches.sweep()
    _sweep_volumes(machine, set(kept))
    for socket in machine.run_dir.glob("*.sock"):
        if socket.stem not in kept:
            socket.unlink()


def _sweep_volumes(machine: Machine, kept: set[str]) -> None:
    for mounts in machine.volume_mounts.iterdir():
        volume = machine.volume(mounts.name)
        for deployment_id in volume.users() - kept:
            volume.hide(deployment_id)
        if not volume.users():  # a crash came between its mount and the view of it
            volume.close()


def thaw(machine: Machine) -> None:
    """Let apps write again whose disk was being copied when an earlier gateway crashed."""
    volumes = [machine.volume(mounts.name) for mounts in machine.volume_mounts.iterdir()]
    mount_points = [volume.disk.mount_point for volume in volumes]
    for mount_point in (*machine.mount_points.iterdir(), *mount_points):
        if os.path.ismount(mount_point) and kernel.thaw(mount_point):
            logger.warning("%s was frozen: its app goes on", mount_point)


async def trial(machine: Machine) -> None:
    """Build a deployment that does nothing, with all that isolates one. Raises IsolationMissing."""
    place = machine.place(f"trial-{uuid.uuid4().hex[:8]}")
    empty = machine.run_dir / _EMPTY
    spec = BuildSpec(
        deployment_id=place.deployment_id, source=empty, plan=_TRIAL_PLAN, limits=_TRIAL_LIMITS,
        timeout_seconds=20,
    )  # fmt: skip
    try:
        slot = await in_thread(place.begin)
        await build.make(place, slot, spec)
    except OSError as error:
        raise IsolationMissing((f"a trial run failed: {error}",)) from error
    except DeployFailed as failed:
        said = failed.log_tail.strip() or failed.reason
        problem = f"a trial run in the sandbox failed: {said}"
        raise IsolationMissing((problem, *probe.likely_causes())) from failed
    finally:
        await in_thread(place.remove)


def _prepare_directories(machine: Machine) -> None:
    machine.deployments.mkdir(parents=True, exist_ok=True, mode=0o700)
    machine.run_dir.mkdir(parents=True, exist_ok=True)
    machine.run_dir.chmod(0o711)
    machine.mount_points.mkdir(exist_ok=True, mode=0o711)
    machine.volume_mounts.mkdir(exist_ok=True, mode=0o711)
    machine.volumes.mkdir(exist_ok=True, mode=0o700)
    machine.toolchains.directory.mkdir(exist_ok=True, mode=0o711)
    machine.caches.directory.mkdir(exist_ok=True, mode=0o700)
    (machine.run_dir / _EMPTY).mkdir(exist_ok=True)


def _remove_directories(machine: Machine) -> None:
    """Piece by piece: what is still mounted refuses, where a whole tree would be emptied."""
    for name in machine.tools:
        (machine.run_dir / "bin" / name).unlink()
    for directory in ("bin", "disks", "volumes", "toolchains", _EMPTY):
        (machine.run_dir / directory).rmdir()
    machine.run_dir.rmdir()


def _tool_path(configuration: Configuration, name: str) -> Path:
    return configuration.run_dir / "bin" / name


def _bind_tools(configuration: Configuration) -> None:
    """Show the tools below `run_dir`: they may lie where apps' users can't get, such as /root."""
    _unbind_tools(configuration)
    directory = configuration.run_dir / "bin"
    directory.mkdir(exist_ok=True, mode=0o711)
    shims.write(directory)
    for name, source in configuration.tools.items():
        (directory / name).touch()
        kernel.mount(source.resolve(strict=True), directory / name, None, kernel.MS_BIND)


def _unbind_tools(configuration: Configuration) -> None:
    for name in configuration.tools:
        path = _tool_path(configuration, name)
        try:
            kernel.unmount(path, detach=True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there
                raise


def _collect_output(machine: Machine) -> None:
    try:
        machine.collecting.ensure()
    except OSError as error:
        raise IsolationMissing((str(error),)) from error


def _open_cgroups(machine: Machine) -> None:
    try:
        machine.cgroups.open()
    except OSError as error:
        raise IsolationMissing((f"control groups can't be made: {error}",)) from error


def keep_firewall(machine: Machine, configuration: Configuration) -> None:
    """Load the firewall again if somebody flushed the machine's rules. Raises OSError."""
    if not firewall.is_loaded(machine.instance_id):
        logger.warning("the packet filter of the apps was gone: it is loaded again")
        firewall.load(_policy(configuration, machine, _connected()))


def _load_firewall(configuration: Configuration, machine: Machine) -> None:
    connected = _connected()
    missing = probe.overlapping(configuration.subnet, connected) + probe.enable_forwarding()
    if missing:
        raise IsolationMissing(tuple(missing))
    try:
        firewall.load(_policy(configuration, machine, connected))
    except OSError as error:
        raise IsolationMissing((f"the packet filter can't be loaded: {error}",)) from error


def _connected() -> tuple[str, ...]:
    return firewall.connected_networks(tool.run(["ip", "-json", "-4", "address"]))


def _policy(configuration: Configuration, machine: Machine, connected: tuple[str, ...]) -> Policy:
    return Policy(
        instance_id=configuration.instance_id,
        subnet=configuration.subnet,
        deny=(*connected, *configuration.deny),
        allow=configuration.allow,
        resolvers=machine.servers,
        traffic=configuration.traffic,
    )
