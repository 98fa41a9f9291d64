"""The rootless runtime: builds and runs apps on this machine as an ordinary user, each apart."""

import asyncio
import contextlib
import errno
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from moorage.clock import Clock, SystemClock
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.process import reap
from moorage.runtimes.rootless import app, build, copying, host, probe
from moorage.runtimes.rootless.place import Machine, Place
from moorage.runtimes.rootless.processes import descendants, everything, memory_bytes
from moorage.runtimes.rootless.record import Record
from moorage.runtimes.rootless.watch import Watch
from moorage.runtimes.runtime import (
    AppExit,
    BuildSpec,
    Instance,
    InstanceSpec,
    LogKind,
    LogPage,
    Usage,
)
from moorage.runtimes.sandbox.cgroup import Hierarchy
from moorage.runtimes.sandbox.disk import disk_failure
from moorage.runtimes.sandbox.door import SUN_PATH_BYTES
from moorage.runtimes.sandbox.record import Stage
from moorage.runtimes.sandbox.toolchains import Store, ensured
from moorage.runtimes.sandbox.trees import NotAFile
from moorage.runtimes.traffic import Traffic
from moorage.threads import in_thread, to_its_end

_DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_LONGEST_ID = 36  # a UUID
_WATCH_EVERY_SECONDS = 0.25
_TEND_EVERY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Rootless:
    """A `Runtime` of user namespaces, pasta, nftables, seccomp and resource limits.

    `state_dir` keeps files, logs and records over restarts, `run_dir` sockets, so that its path
    must be short; both are this gateway's alone, and closed to all other users. `deny` and `allow`
    are IPv4 networks besides the built-in ones; `allow` wins. `hierarchy` is where this user may
    make control groups, None for nowhere. `accept_soft_limits` says that the operator knows which
    limits are only watched here; without it the runtime does not open. Of one object, each
    deployment's calls wait for each other.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        run_dir: Path,
        instance_id: str,
        tools: Mapping[str, Path],
        build_env: Mapping[str, str] | None = None,
        deny: tuple[str, ...] = (),
        allow: tuple[str, ...] = (),
        toolchains: Store | None = None,
        traffic: Traffic = Traffic(),  # noqa: B008 (frozen)
        accept_soft_limits: bool = False,
        hierarchy: Hierarchy | None = None,
        clock: Clock | None = None,
        stop_grace_seconds: float = 5.0,
    ) -> None:
        if len(bytes(run_dir)) + len("/.sock") + _LONGEST_ID > SUN_PATH_BYTES:
            raise ValueError(f"run_dir {run_dir} is too long for the path of a unix socket")
        self._configuration = host.Configuration(
            state_dir=state_dir.absolute(),
            run_dir=run_dir.absolute(),
            instance_id=instance_id,
            tools=dict(tools),
            build_env=dict(build_env or {}),
            deny=deny,
            allow=allow,
            toolchains=toolchains,
            traffic=traffic,
            accept_soft_limits=accept_soft_limits,
            hierarchy=hierarchy,
            clock=clock or SystemClock(),
        )
        self._stop_grace_seconds = stop_grace_seconds
        self._opened: Machine | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._watch = Watch()
        self._apps: dict[str, Record] = {}  # those that were started, and not stopped since
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> str:
        """As `Runtime.open`; runs a trial, and removes what nothing accounts for any more."""
        self._opened = await in_thread(host.open_machine, self._configuration)
        try:
            await host.trial(self._opened)
        except BaseException:
            await in_thread(self._opened.collecting.end)
            self._opened = None
            raise
        self._apps = await in_thread(self._adopted)
        tasks = (self._opened.collecting.keep(), self._keep_watching(), self._keep_tending())
        self._tasks = [asyncio.create_task(task) for task in tasks]
        groups = self._opened.cgroups
        version = None if groups is None else groups.hierarchy.version
        limits = "limits of each process" if version is None else f"cgroup v{version}"
        return f"rootless: user namespaces, pasta, nftables, seccomp, {limits}; disks are watched"

    async def check(self) -> None:
        """As `Runtime.check`: open, and nothing is missing since."""
        if self._opened is None:
            raise IsolationMissing(("the runtime is closed",))
        if missing := await in_thread(probe.missing):
            raise IsolationMissing(tuple(missing))

    async def close(self, *, stop_apps: bool) -> None:
        """As `Runtime.close`. Without `stop_apps`, each app keeps its packet filter."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self._opened is None:
            return
        if stop_apps:
            ids = await self.known()
            await asyncio.gather(*(self.stop(deployment_id) for deployment_id in ids))
            await in_thread(host.close_machine, self._opened)
        self._opened = None

    async def build(self, spec: BuildSpec) -> None:
        """As `Runtime.build`. Keeps no caches."""
        async with self._alone(spec.deployment_id) as place:
            await to_its_end(self._halt(place))
            await in_thread(place.begin)
            async with _abandoned_on_failure(place):
                await self._fill(place, spec)
                await build.run_steps(place, spec, self._watch)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Runtime.copy`. The copy is made where nothing but the two is to be seen."""
        origin = self._place(origin_id)
        record = origin.record
        if record is None or record.stage not in (Stage.BUILT, Stage.STARTED):
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to copy")
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))
            await in_thread(place.begin)
            async with _abandoned_on_failure(place):
                await copying.copy(origin, place, self._watch)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Runtime.start`; an app that has a volume is not started without it."""
        if spec.volume is not None:
            raise DeployFailed(FailureCause.INTERRUPTED, "without root there are no volumes")
        async with self._alone(spec.deployment_id) as place:
            record = place.record
            if record is None or record.stage in (Stage.BUILDING, Stage.FAILED):
                raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to start")
            if (instance := await in_thread(_live, place, record)) is not None:
                return instance
            try:
                return await self._start(place, record, spec, timeout_seconds)
            except BaseException:
                await to_its_end(self._halt(place))
                raise

    async def stop(self, deployment_id: str) -> None:
        """As `Runtime.stop`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))

    async def discard(self, deployment_id: str) -> None:
        """As `Runtime.discard`."""
        async with self._alone(deployment_id) as place:
            if place.record is not None:
                await to_its_end(self._halt(place))
                await in_thread(place.abandon)

    async def remove(self, deployment_id: str) -> None:
        """As `Runtime.remove`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))
            await in_thread(place.remove)

    async def volumes(self) -> set[str]:
        """As `Runtime.volumes`: without root there are none."""
        return set()

    async def remove_volume(self, volume_id: str) -> None:
        """As `Runtime.remove_volume`: there is nothing to remove."""

    async def running(self) -> dict[str, Instance]:
        """As `Runtime.running`."""
        return await in_thread(self._running)

    async def connections(self, deployment_id: str) -> int:
        """As `Runtime.connections`."""
        record = self._place(deployment_id).record
        return 0 if record is None else await in_thread(app.connections, record)

    async def usage(self) -> dict[str, Usage]:
        """As `Runtime.usage`; what processes used that have ended is missing."""
        return await in_thread(self._usage)

    async def known(self) -> set[str]:
        """As `Runtime.known`."""
        return {place.deployment_id for place in self._machine.places()}

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        """As `Runtime.exit_reason`; None for an app that was never started."""
        place = self._place(deployment_id)
        record = place.record
        return None if record is None else await in_thread(app.exit_of, place, record)

    def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """As `Runtime.log_tail`."""
        return self._place(deployment_id).logs.tail(kind, max_bytes)

    def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: int = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        """As `Runtime.read_log`."""
        logs = self._place(deployment_id).logs
        return logs.read(kind, after=after, since_ms=since_ms, tail=tail, limit=limit)

    def note(self, deployment_id: str, text: str) -> None:
        """As `Runtime.note`."""
        self._place(deployment_id).logs.note(LogKind.RUNTIME, text)

    @property
    def _machine(self) -> Machine:
        if self._opened is None:
            raise RuntimeError("the runtime is not open")
        return self._opened

    def _place(self, deployment_id: str) -> Place:
        if not _DEPLOYMENT_ID.match(deployment_id):
            raise ValueError(f"{deployment_id!r} can't name a deployment")
        return self._machine.place(deployment_id)

    @asynccontextmanager
    async def _alone(self, deployment_id: str) -> AsyncIterator[Place]:
        place = self._place(deployment_id)
        lock = self._locks.setdefault(deployment_id, asyncio.Lock())
        async with lock:
            yield place

    async def _fill(self, place: Place, spec: BuildSpec) -> None:
        try:
            await in_thread(place.fill, spec.source)
        except NotAFile as error:
            raise DeployFailed(FailureCause.UPLOAD_INVALID, str(error)) from error
        except OSError as error:
            raise disk_failure(error, spec.limits.disk_bytes) from error
        if await in_thread(place.used_bytes) > spec.limits.disk_bytes:
            raise disk_failure(OSError(errno.ENOSPC, ""), spec.limits.disk_bytes)

    async def _start(
        self, place: Place, record: Record, spec: InstanceSpec, timeout_seconds: float
    ) -> Instance:
        if not app.is_running(record):
            try:
                toolchains = await ensured(place.machine.toolchains, spec.plan.toolchains)
                record = await in_thread(app.launch, place, spec, toolchains)
            except OSError as error:
                raise disk_failure(error, spec.limits.disk_bytes) from error
        self._apps[place.deployment_id] = record
        listener = await app.wait_listening(place, record, spec, timeout_seconds=timeout_seconds)
        record = await in_thread(app.open_door, place, record, listener)
        return _instance(place, record)

    def _adopted(self) -> dict[str, Record]:
        """The apps that run already, started by an earlier gateway."""
        records = {place.deployment_id: place.record for place in self._machine.places()}
        return {
            key: record
            for key, record in records.items()
            if record is not None and app.is_running(record)
        }

    def _running(self) -> dict[str, Instance]:
        found = {}
        for place in self._machine.places():
            record = place.record
            if record is not None and (instance := _live(place, record)) is not None:
                found[place.deployment_id] = instance
        return found

    def _usage(self) -> dict[str, Usage]:
        processes, used = everything(), {}
        for place in self._machine.places():
            record = place.record
            if record is None or record.holder is None or not app.is_running(record):
                continue
            inside = descendants(record.holder, processes)
            used[place.deployment_id] = Usage(
                cpu_ms=sum(process.cpu_ms for process in inside),
                memory_bytes=sum(memory_bytes(process.id.pid) for process in inside),
            )
        return used

    async def _halt(self, place: Place) -> None:
        """Stop the app and keep how it ended."""
        record = place.record
        if record is None:
            return
        await app.stop(place, record, grace_seconds=self._stop_grace_seconds)
        await in_thread(app.close_door, place, record)
        ended = await in_thread(app.exit_of, place, record)
        await in_thread(place.remove_group)
        self._apps.pop(place.deployment_id, None)
        if ended is not None:
            record = msgspec.structs.replace(
                record, exit_code=ended.exit_code, out_of_memory=ended.out_of_memory, listener=None
            )
            await in_thread(place.write, record)

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_SECONDS)
            try:
                await in_thread(self.watch)
            except OSError as error:  # some app may be on its way out just now
                logger.warning("apps can't be watched: %s", error)

    async def _keep_tending(self) -> None:
        while True:
            await asyncio.sleep(_TEND_EVERY_SECONDS)
            try:
                await in_thread(self.tend)
            except OSError as error:
                logger.warning("apps can't be tended: %s", error)

    def watch(self) -> None:
        """Kill the apps that have too much, once; blocks."""
        apps = {key: it for key, it in list(self._apps.items()) if app.is_running(it)}
        processes = everything() if apps else {}
        for deployment_id, record in apps.items():
            if record.pasta is not None:
                place = self._machine.place(deployment_id)
                self._watch.look(place, record.pasta, app.limits_of(record), processes)

    def tend(self) -> None:
        """What is done every few seconds, once; blocks."""
        host.keep_rules(self._machine, self._configuration)
        for record in list(self._apps.values()):
            if record.pasta is not None and not app.is_running(record):
                reap(record.pasta.pid)


@asynccontextmanager
async def _abandoned_on_failure(place: Place) -> AsyncIterator[None]:
    """Keep what was built within, or nothing but the logs."""
    try:
        yield
    except BaseException:
        await to_its_end(in_thread(place.abandon))
        raise
    await in_thread(place.write, Record(deployment_id=place.deployment_id, stage=Stage.BUILT))


def _live(place: Place, record: Record) -> Instance | None:
    """The app, if it runs, listens where its door leads, and the door is open."""
    if record.listener is None or not app.is_open(place, record) or not app.listens(record):
        return None
    return _instance(place, record)


def _instance(place: Place, record: Record) -> Instance:
    if record.listener is None:
        raise ValueError(f"{place.deployment_id} has no door")
    port = record.listener.port
    return Instance(deployment_id=place.deployment_id, socket=place.socket, port=port)
