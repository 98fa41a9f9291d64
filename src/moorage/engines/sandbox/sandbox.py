"""The sandbox engine: builds and runs apps on this machine, isolated by a gateway with root."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.archive.tree import Tree
from moorage.clock import Clock
from moorage.engines.disks.caches import Caches
from moorage.engines.disks.disk import NO_SPACE, disk_failure
from moorage.engines.engine import (
    AppExit,
    BuildSpec,
    Capabilities,
    Instance,
    InstanceSpec,
    Resources,
    Usage,
    WrittenFiles,
)
from moorage.engines.host.cgroup import APPS
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.listeners import Listener
from moorage.engines.host.local import LocalEngine, repeat, require_built
from moorage.engines.host.probe import trial
from moorage.engines.isolation import firewall, network
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox import app, build
from moorage.engines.sandbox.build import provision_copy, reprovision
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory, Host, Record, app_of
from moorage.engines.sandbox.host import (
    TRIAL_LIMITS,
    close_host,
    keep_firewall,
    measure,
    open_host,
)
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.threads import in_thread

_MIN_SECONDS, _MAX_SECONDS = 3.0, 20.0
_CHECKS_A_SECOND = 3  # 0.2 ms of processor time each


class RecentInstances:
    """Takes an app with a process for listening for some seconds; the fewer apps, the fewer.

    A check finds an app that runs on, but listens no more, or has lost its network.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, Instance]] = {}  # monotonic seconds

    def instance(self, deployment_id: str) -> Instance | None:
        """Returns an app that was seen so recently that it need not be checked again."""
        seen = self._seen.get(deployment_id)
        if seen is None or seen[0] + self._valid_seconds() <= self._clock.monotonic_seconds():
            return None
        return seen[1]

    def note(self, instance: Instance) -> None:
        """Records that an app runs and listens now."""
        self._seen[instance.deployment_id] = (self._clock.monotonic_seconds(), instance)

    def forget(self, deployment_id: str) -> None:
        """Forgets an app: it is checked the next time."""
        self._seen.pop(deployment_id, None)

    def forget_others(self, keep: Collection[str]) -> None:
        """Forgets all apps but those in `keep`."""
        for deployment_id in self._seen.keys() - set(keep):
            self.forget(deployment_id)

    def _valid_seconds(self) -> float:
        return min(_MAX_SECONDS, max(_MIN_SECONDS, len(self._seen) / _CHECKS_A_SECOND))


SUBNET = "10.201.0.0/16"
DOWNLOADS_BYTES = 4096 * 1024 * 1024
_INSTANCE_ID = re.compile(r"[0-9a-f]{4,6}\Z")
_MAINTAIN_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Sandbox(LocalEngine[Host, DeploymentDirectory]):
    """An `Engine` of namespaces, control groups, nftables, seccomp and loop disks.

    `run_dir` contains mount points, so every user must be able to reach it. `instance_id` has 4 to
    6 hex digits. Builds keep up to `wallet_cache_bytes` (0: nothing) for later builds of the same
    wallet, and up to `total_cache_bytes` for all wallets. Each has a disk of `downloads_bytes` for
    what it downloads.
    """

    capabilities = Capabilities(written_files=True)

    def __init__(
        self,
        configuration: HostConfiguration,
        *,
        subnet: str = SUBNET,
        wallet_cache_bytes: int = 0,
        total_cache_bytes: int = 0,
        downloads_bytes: int = DOWNLOADS_BYTES,
    ) -> None:
        if not _INSTANCE_ID.match(configuration.instance_id):
            raise ValueError("instance_id must be 4 to 6 hex digits")
        super().__init__(configuration)
        self._subnet = subnet
        self._downloads_bytes = downloads_bytes
        self._caches = Caches(
            directory=configuration.state_dir / "caches",
            wallet_bytes=wallet_cache_bytes,
            total_bytes=total_cache_bytes,
            clock=configuration.clock,
        )
        self._settled: set[str] = set()
        self._ports = network.Ports()
        self._recent = RecentInstances(configuration.clock)

    @property
    def instance_id(self) -> str:
        """This gateway's own id on the machine."""
        return self._configuration.instance_id

    async def open(self) -> str:
        """As `Engine.open`; runs a trial, and removes what belongs to no deployment."""
        self._opened = await in_thread(
            open_host,
            self._configuration,
            subnet=self._subnet,
            caches=self._caches,
            downloads_bytes=self._downloads_bytes,
        )
        try:
            await trial(self._opened, _built, TRIAL_LIMITS)
        except BaseException:
            # If apps of an earlier gateway run, the firewall must stay.
            if not self._opened.directories():
                await in_thread(close_host, self._opened)
            self._opened = None
            raise
        self._watch_exits(self._with_apps())
        self._opened.space.begin()
        self._keep(
            self._opened.collecting.keep(), repeat(self.maintain, every_seconds=_MAINTAIN_SECONDS)
        )
        version = self._opened.cgroups.hierarchy.version
        return f"root: namespaces, seccomp, nftables, cgroup v{version}, loop disks"

    async def check(self) -> None:
        """As `Engine.check`: the engine is open, and the apps' packet filter is loaded."""
        if self._opened is None:
            raise IsolationMissing(("the sandbox is closed",))
        if not await in_thread(firewall.is_loaded, self.instance_id):
            raise IsolationMissing(("the packet filter of the apps is gone",))

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`."""
        if self._opened is not None:
            await in_thread(self._opened.space.end)
        await super().close(stop_apps=stop_apps)

    def _close_host(self, host: Host) -> None:
        close_host(host)

    async def build(self, spec: BuildSpec) -> None:
        """As `Engine.build`."""
        async with self._alone(spec.deployment_id) as directory, self._making(directory) as slot:
            await build.make(directory, slot, spec)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Engine.copy`. The origin's writes wait for up to FREEZE_SECONDS."""
        first, second = sorted({origin_id, deployment_id})  # a fixed order, against deadlocks
        async with self._alone(first), self._alone(second):
            origin, directory = self._directory(origin_id), self._directory(deployment_id)
            require_built(origin, "copy")
            async with self._making(directory) as slot:
                await provision_copy(directory, slot, origin)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `Engine.export_files`: a stopped app's disk is mounted meanwhile."""
        async with self._alone(deployment_id) as directory:
            require_built(directory, "move")
            await in_thread(directory.export_files, target, without)

    async def _read_written(
        self, deployment_id: str, target: Path, *, max_bytes: int | None
    ) -> Tree | None:
        """As `LocalEngine._read_written`: a stopped app's disk is mounted meanwhile."""
        async with self._alone(deployment_id) as directory:
            require_built(directory, "take files of")
            return await in_thread(directory.read_written, target, max_bytes)

    async def connections(self, deployment_id: str) -> int:
        """As `Engine.connections`: those to the app's own port."""
        return await in_thread(app.connections, self._directory(deployment_id))

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """As `Engine.written`: what is newer on the app's disk than the end of its build."""
        return await in_thread(self._directory(deployment_id).written)

    async def resources(self) -> Resources:
        """As `Engine.resources`."""
        return await in_thread(measure, self._host, self._locks.held())

    async def _exit(self, directory: DeploymentDirectory) -> AppExit | None:
        record = directory.record
        if record is None:
            return None
        if (ended := await app.exit_of(directory, record)) is not None:
            await in_thread(directory.logs.drain, record.log)
        return ended

    @asynccontextmanager
    async def _making(self, directory: DeploymentDirectory) -> AsyncIterator[Slot]:
        """Makes an empty directory with a slot; at the end it is built, or abandoned on errors."""
        slot = await in_thread(directory.begin)
        try:
            yield slot
            built = Record(
                deployment_id=directory.deployment_id, slot=slot.number, stage=Stage.BUILT
            )
            await in_thread(directory.write, built)
        except BaseException:
            await in_thread(directory.abandon)
            raise

    async def _start(
        self, directory: DeploymentDirectory, spec: InstanceSpec, timeout_seconds: float
    ) -> Instance:
        if directory.deployment_id in self._host.space.held:
            raise DeployFailed(FailureCause.OUT_OF_DISK, NO_SPACE)
        slot = await in_thread(directory.reclaim_slot)
        port = self._port(directory.record, slot)
        await reprovision(directory, slot)
        if await self._is_gone(directory):
            directory.socket.unlink(missing_ok=True)
            self._settled.discard(directory.deployment_id)
            await self._host.toolchains.show(spec.plan.toolchains)
            starting = _started(directory, slot, spec, port=port)
            await in_thread(directory.write, starting)
            try:
                if spec.resizes:
                    await in_thread(directory.disk.fit, spec.limits.disk_bytes, slot.app_uid)
                await in_thread(app.launch, directory, slot, spec)
            except OSError as error:
                raise disk_failure(error, spec.limits.disk_bytes) from error
            self._exits.watch(directory.deployment_id, directory.status_file)
        if not spec.listens:
            await app.wait_begun(directory)
            return Instance(deployment_id=directory.deployment_id, address=None, port=None)
        listener = await app.wait_listening(directory, slot, spec, timeout_seconds=timeout_seconds)
        reached_at = port if network.reaches(listener) else None
        record = _started(directory, slot, spec, listener=listener, port=reached_at)
        await in_thread(app.open_address, directory, slot, record)
        await in_thread(directory.write, record)
        return _instance(directory, record)

    def _port(self, record: Record | None, slot: Slot) -> int:
        """Returns the port that an app keeps as long as it keeps its slot."""
        if record is None or record.slot != slot.number or record.port is None:
            return self._ports.new(slot.number)
        self._ports.note(slot.number, record.port)
        return record.port

    def _running(self) -> dict[str, Instance]:
        found = {}
        for deployment_id, group in self._app_groups():
            instance = self._recent.instance(deployment_id)
            if instance is None or not self._has_process(deployment_id, group):
                instance = self._live(self._host.directory(deployment_id))
            if instance is not None:
                found[deployment_id] = instance
        self._recent.forget_others(keep=found)
        return found

    def _has_process(self, deployment_id: str, group: str) -> bool:
        """Returns whether an app still runs whose end was not reported."""
        return self._exits.awaits(deployment_id) or bool(self._host.cgroups.pids(group))

    def _with_apps(self) -> list[DeploymentDirectory]:
        """Returns the directories of deployments that have an app's control group.

        So stopped apps cost nothing.
        """
        return [self._host.directory(deployment_id) for deployment_id, _ in self._app_groups()]

    def _app_groups(self) -> list[tuple[str, str]]:
        """Returns deployments and their app's control group."""
        groups = self._host.cgroups.used(APPS)
        return sorted((name, group) for group in groups if (name := app_of(group)) is not None)

    def _usage(self) -> dict[str, Usage]:
        found = {}
        for directory in self._with_apps():
            if (usage := self._host.cgroups.usage(directory.app_group)) is not None:
                found[directory.deployment_id] = usage
        return found

    def _live(self, directory: DeploymentDirectory) -> Instance | None:
        """Returns the app if it runs, and listens where its address leads."""
        record = directory.record
        if record is None or not app.is_up(directory, record):
            self._recent.forget(directory.deployment_id)
            return None
        instance = _instance(directory, record)
        self._recent.note(instance)
        return instance

    def _is_running(self, directory: DeploymentDirectory) -> bool:
        return app.is_running(directory)

    def _has_ended(self, directory: DeploymentDirectory) -> bool:
        return app.has_ended(directory)

    async def _halt(self, directory: DeploymentDirectory) -> None:
        """Stops the app, and records how it ended before its control groups are removed."""
        record = directory.record
        if record is None:
            return
        await app.stop(directory, grace_seconds=self._configuration.stop_grace_seconds)
        await asyncio.to_thread(directory.logs.drain, record.log)
        ended = await app.exit_of(directory, record)
        if ended is not None:
            record = record.ended(ended, await asyncio.to_thread(directory.written))
            try:
                directory.write(record)
            except OSError as error:  # an app must be stopped even if the disk is full
                logger.warning("how %s ended is not kept: %s", directory.deployment_id, error)
        await asyncio.to_thread(directory.dismiss, record)

    def maintain(self) -> None:
        """Does once what must be done every few seconds; blocks."""
        keep_firewall(self._host)
        for directory in self._with_apps():
            try:
                self._maintain_app(directory)
            except OSError as error:  # the app may be ending at this moment
                logger.warning(
                    "deployment %s can't be maintained: %s", directory.deployment_id, error
                )

    def _maintain_app(self, directory: DeploymentDirectory) -> None:
        if directory.deployment_id in self._settled:
            return
        record = directory.record
        if record is None or record.cpu_millis is None:
            return
        if record.listens and record.listener is None:
            return  # it starts
        if app.is_running(directory):
            directory.host.cgroups.set_cpu(directory.app_group, record.cpu_millis)
            self._settled.add(directory.deployment_id)


async def _built(directory: DeploymentDirectory, spec: BuildSpec) -> None:
    await build.make(directory, await in_thread(directory.begin), spec)


def _started(
    directory: DeploymentDirectory,
    slot: Slot,
    spec: InstanceSpec,
    *,
    port: int | None,
    listener: Listener | None = None,
) -> Record:
    return Record(
        deployment_id=directory.deployment_id,
        slot=slot.number,
        stage=Stage.STARTED,
        cpu_millis=spec.limits.cpu_millis,
        listener=listener,
        port=port,
        listens=spec.listens,
        log=spec.log,
    )


def _instance(directory: DeploymentDirectory, record: Record) -> Instance:
    listener = record.listener
    return Instance(
        deployment_id=directory.deployment_id,
        address=None if listener is None else directory.address(record),
        port=None if listener is None else listener.port,
    )
