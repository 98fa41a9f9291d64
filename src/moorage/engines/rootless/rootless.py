"""The rootless engine: builds and runs apps on this machine as an ordinary user."""

import errno
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.engines.disks.disk import capacity_bytes, disk_failure, free_bytes
from moorage.engines.disks.leaving import copy_files
from moorage.engines.disks.trees import NotAFile
from moorage.engines.engine import (
    AppExit,
    BuildSpec,
    Capabilities,
    Disks,
    Instance,
    InstanceSpec,
    Usage,
)
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.kernel.cgroup import Hierarchy
from moorage.engines.host.local import LocalEngine, repeat, require_built
from moorage.engines.host.record import Stage
from moorage.engines.host.toolchains import ensured
from moorage.engines.host.trial import trial
from moorage.engines.rootless import app, build, probe
from moorage.engines.rootless.deployment_directory import DeploymentDirectory, Host
from moorage.engines.rootless.host import TRIAL_LIMITS, close_host, keep_rules, open_host
from moorage.engines.rootless.processes import descendants, everything, memory_bytes
from moorage.engines.rootless.record import Record
from moorage.engines.rootless.watch import Watch
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.process import reap
from moorage.threads import in_thread, to_its_end

_WATCH_EVERY_SECONDS = 0.25
_TEND_EVERY_SECONDS = 5.0


class Rootless(LocalEngine[Host, DeploymentDirectory]):
    """An `Engine` of user namespaces, pasta, nftables, seccomp and resource limits.

    Other users cannot enter its directories. `hierarchy` is where this user may make control
    groups, None if nowhere. With `accept_soft_limits` the operator accepts that some limits are
    only watched; without it the engine does not open.
    """

    capabilities = Capabilities(volumes=False, caches=False)

    def __init__(
        self,
        configuration: HostConfiguration,
        *,
        accept_soft_limits: bool = False,
        hierarchy: Hierarchy | None = None,
    ) -> None:
        super().__init__(configuration)
        self._accept_soft_limits = accept_soft_limits
        self._hierarchy = hierarchy
        self._watch = Watch()
        self._apps: dict[str, Record] = {}  # apps that were started and not stopped, by deployment

    async def open(self) -> str:
        """As `Engine.open`; runs a trial, and removes what belongs to no deployment."""
        self._opened = await in_thread(
            open_host,
            self._configuration,
            hierarchy=self._hierarchy,
            accept_soft_limits=self._accept_soft_limits,
        )
        try:
            await trial(self._opened, _built, TRIAL_LIMITS)
        except BaseException:
            await in_thread(self._opened.collecting.end)
            self._opened = None
            raise
        self._apps = await in_thread(self._adopted)
        self._watch_exits(self._directory(deployment_id) for deployment_id in self._apps)
        self._keep(
            self._opened.collecting.keep(),
            repeat(self.watch, every_seconds=_WATCH_EVERY_SECONDS),
            repeat(self.tend, every_seconds=_TEND_EVERY_SECONDS),
        )
        groups = self._opened.cgroups
        version = None if groups is None else groups.hierarchy.version
        limits = "limits of each process" if version is None else f"cgroup v{version}"
        return f"rootless: user namespaces, pasta, nftables, seccomp, {limits}; disks are watched"

    async def check(self) -> None:
        """As `Engine.check`: the engine is open, and the machine still lacks nothing."""
        if self._opened is None:
            raise IsolationMissing(("the runtime is closed",))
        if missing := await in_thread(probe.missing):
            raise IsolationMissing(tuple(missing))

    def _close_host(self, host: Host) -> None:
        close_host(host)

    async def build(self, spec: BuildSpec) -> None:
        """As `Engine.build`. Keeps no caches."""
        async with self._alone(spec.deployment_id) as directory:
            await to_its_end(self._halt(directory))
            await in_thread(directory.begin)
            async with _abandoned_on_failure(directory):
                await self._fill(directory, spec)
                await build.run_steps(directory, spec, self._watch)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Engine.copy`. A sandbox that contains only the two deployments makes the copy."""
        origin = self._directory(origin_id)
        require_built(origin, "copy")
        async with self._alone(deployment_id) as directory:
            await to_its_end(self._halt(directory))
            await in_thread(directory.begin)
            async with _abandoned_on_failure(directory):
                await build.copy(origin, directory, self._watch)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Engine.start`; refuses an app that needs a volume."""
        if spec.volume is not None:
            raise DeployFailed(FailureCause.INTERRUPTED, "without root there are no volumes")
        return await super().start(spec, timeout_seconds=timeout_seconds)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `Engine.export_files`."""
        async with self._alone(deployment_id) as directory:
            require_built(directory, "move")
            size = await in_thread(capacity_bytes, directory.app)
            await in_thread(copy_files, directory.app, target, without=without, max_bytes=size)

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`: there are none without root."""
        return set()

    async def clear_volume(self, volume_id: str) -> None:
        """As `Engine.clear_volume`: does nothing."""

    async def remove_volume(self, volume_id: str) -> None:
        """As `Engine.remove_volume`: does nothing."""

    async def running(self) -> dict[str, Instance]:
        """As `Engine.running`."""
        return await in_thread(self._running)

    async def connections(self, deployment_id: str) -> int:
        """As `Engine.connections`."""
        record = self._directory(deployment_id).record
        return 0 if record is None else await in_thread(app.connections, record)

    async def usage(self) -> dict[str, Usage]:
        """As `Engine.usage`, without the usage of processes that have ended."""
        return await in_thread(self._usage)

    async def written(self, deployment_id: str) -> None:
        """As `Engine.written`: not known, as this user can't enter an app's directories."""

    async def disks(self) -> Disks:
        """As `Engine.disks`."""
        return Disks(free_bytes=await in_thread(free_bytes, self._host.deployments))

    async def free_networks(self) -> None:
        """As `Engine.free_networks`: there is no limit."""

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        """As `Engine.exit_reason`; None for an app that was never started."""
        directory = self._directory(deployment_id)
        record = directory.record
        return None if record is None else await in_thread(app.exit_of, directory, record)

    async def _fill(self, directory: DeploymentDirectory, spec: BuildSpec) -> None:
        try:
            await in_thread(directory.fill, spec.source)
        except NotAFile as error:
            raise DeployFailed(FailureCause.UPLOAD_INVALID, str(error)) from error
        except OSError as error:
            raise disk_failure(error, spec.limits.disk_bytes) from error
        if await in_thread(directory.used_bytes) > spec.limits.disk_bytes:
            raise disk_failure(OSError(errno.ENOSPC, ""), spec.limits.disk_bytes)

    async def _start(
        self, directory: DeploymentDirectory, spec: InstanceSpec, timeout_seconds: float
    ) -> Instance:
        record = directory.record
        if record is None or await self._is_gone(directory):
            directory.socket.unlink(missing_ok=True)
            try:
                toolchains = await ensured(self._configuration.toolchains, spec.plan.toolchains)
                record = await in_thread(app.launch, directory, spec, toolchains)
            except OSError as error:
                raise disk_failure(error, spec.limits.disk_bytes) from error
            self._exits.watch(directory.deployment_id, directory.status_file)
        self._apps[directory.deployment_id] = record
        listener = await app.wait_listening(
            directory, record, spec, timeout_seconds=timeout_seconds
        )
        record = await in_thread(app.open_proxy, directory, record, listener)
        return directory.instance(listener)

    def _adopted(self) -> dict[str, Record]:
        """Returns the running apps that an earlier gateway started."""
        records = {
            directory.deployment_id: directory.record for directory in self._host.directories()
        }
        return {
            key: record
            for key, record in records.items()
            if record is not None and app.is_running(record)
        }

    def _running(self) -> dict[str, Instance]:
        found = {}
        for directory in self._host.directories():
            if (instance := self._live(directory)) is not None:
                found[directory.deployment_id] = instance
        return found

    def _usage(self) -> dict[str, Usage]:
        processes, used = everything(), {}
        for directory in self._host.directories():
            record = directory.record
            if record is None or record.holder is None or not app.is_running(record):
                continue
            inside = descendants(record.holder, processes)
            used[directory.deployment_id] = Usage(
                cpu_ms=sum(process.cpu_ms for process in inside),
                memory_bytes=sum(memory_bytes(process.id.pid) for process in inside),
            )
        return used

    async def _halt(self, directory: DeploymentDirectory) -> None:
        """Stops the app, if it runs, and records how it ended."""
        record = directory.record
        if record is None:
            return
        await app.stop(directory, record, grace_seconds=self._configuration.stop_grace_seconds)
        await in_thread(app.close_proxy, directory, record)
        ended = await in_thread(app.exit_of, directory, record)
        await in_thread(directory.remove_groups)
        self._apps.pop(directory.deployment_id, None)
        if ended is not None:
            await in_thread(directory.write, record.ended(ended))

    def _live(self, directory: DeploymentDirectory) -> Instance | None:
        record = directory.record
        if record is None or record.listener is None:
            return None
        live = app.is_open(directory, record) and app.listens(record)
        return directory.instance(record.listener) if live else None

    def _is_running(self, directory: DeploymentDirectory) -> bool:
        return app.is_running(directory.record)

    def _has_ended(self, directory: DeploymentDirectory) -> bool:
        return app.has_ended(directory, directory.record)

    def watch(self) -> None:
        """Checks all apps once, and kills those that exceed a limit; blocks."""
        apps = {key: it for key, it in list(self._apps.items()) if app.is_running(it)}
        processes = everything() if apps else {}
        for deployment_id, record in apps.items():
            if record.pasta is not None:
                directory = self._host.directory(deployment_id)
                self._watch.look(directory, record.pasta, app.limits_of(record), processes)

    def tend(self) -> None:
        """Does once what must be done every few seconds; blocks."""
        keep_rules(self._host)
        for record in list(self._apps.values()):
            if record.pasta is not None and not app.is_running(record):
                reap(record.pasta.pid)


@asynccontextmanager
async def _abandoned_on_failure(directory: DeploymentDirectory) -> AsyncIterator[None]:
    """Records the deployment as built at the end of the block; abandons it on any error."""
    try:
        yield
        built = Record(deployment_id=directory.deployment_id, stage=Stage.BUILT)
        await in_thread(directory.write, built)
    except BaseException:
        await to_its_end(in_thread(directory.abandon))
        raise


async def _built(directory: DeploymentDirectory, spec: BuildSpec) -> None:
    await in_thread(directory.begin)
    await build.run_steps(directory, spec, Watch())
