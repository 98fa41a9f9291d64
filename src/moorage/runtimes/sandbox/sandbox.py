"""The sandbox runtime: builds and runs apps on this machine, as root, each well apart."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from moorage.clock import Clock, SystemClock
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.runtimes.runtime import (
    AppExit,
    BuildSpec,
    Instance,
    InstanceSpec,
    LogKind,
    LogPage,
    Usage,
)
from moorage.runtimes.sandbox import app, build, firewall, host
from moorage.runtimes.sandbox.disk import disk_failure
from moorage.runtimes.sandbox.door import SUN_PATH_BYTES
from moorage.runtimes.sandbox.hearing import Hearing
from moorage.runtimes.sandbox.listeners import Listener
from moorage.runtimes.sandbox.place import Machine, Place, app_of
from moorage.runtimes.sandbox.record import Record, Stage
from moorage.runtimes.sandbox.slots import Slot
from moorage.runtimes.sandbox.threads import in_thread, to_its_end
from moorage.runtimes.sandbox.toolchains import Store
from moorage.runtimes.traffic import Traffic

SUBNET = "10.201.0.0/16"
_DEPLOYMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_INSTANCE_ID = re.compile(r"[0-9a-f]{4,6}\Z")
_TEND_EVERY_SECONDS = 5.0
_LONGEST_ID = 36  # a UUID

logger = logging.getLogger(__name__)


class Sandbox:
    """A `Runtime` of namespaces, control groups, nftables, seccomp and loop disks.

    `state_dir` keeps disks, logs and records over restarts. `run_dir` holds sockets, so its path
    must be short, and mount points, so every user must be able to reach it; both directories are
    the sandbox's alone. `instance_id` (4–6 hex digits) is this gateway's alone on the machine.
    `tools` are host programs that builds and apps find on their PATH. `deny` and `allow` are IPv4
    networks besides the built-in ones; `allow` wins. Builds keep up to `wallet_cache_bytes` for
    later ones of their wallet, all together `total_cache_bytes`; with 0 nothing. Of one object,
    each deployment's calls wait for each other.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        run_dir: Path,
        instance_id: str,
        tools: Mapping[str, Path],
        build_env: Mapping[str, str] | None = None,
        subnet: str = SUBNET,
        deny: tuple[str, ...] = (),
        allow: tuple[str, ...] = (),
        wallet_cache_bytes: int = 0,
        total_cache_bytes: int = 0,
        toolchains: Store | None = None,
        traffic: Traffic = Traffic(),  # noqa: B008 (frozen)
        clock: Clock | None = None,
        stop_grace_seconds: float = 5.0,
    ) -> None:
        if not _INSTANCE_ID.match(instance_id):
            raise ValueError("instance_id must be 4 to 6 hex digits")
        if len(bytes(run_dir)) + len("/.sock") + _LONGEST_ID > SUN_PATH_BYTES:
            raise ValueError(f"run_dir {run_dir} is too long for the path of a unix socket")
        self._configuration = host.Configuration(
            state_dir=state_dir.absolute(),
            run_dir=run_dir.absolute(),
            instance_id=instance_id,
            tools=dict(tools),
            build_env=dict(build_env or {}),
            subnet=subnet,
            deny=deny,
            allow=allow,
            wallet_cache_bytes=wallet_cache_bytes,
            total_cache_bytes=total_cache_bytes,
            toolchains=toolchains,
            traffic=traffic,
            clock=clock or SystemClock(),
        )
        self._stop_grace_seconds = stop_grace_seconds
        self._opened: Machine | None = None
        self._tending: list[asyncio.Task[None]] = []
        self._settled: set[str] = set()
        self._hearing = Hearing(self._configuration.clock)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def instance_id(self) -> str:
        """This gateway's own id on the machine."""
        return self._configuration.instance_id

    async def open(self) -> str:
        """As `Runtime.open`; runs a trial, and removes what nothing accounts for any more."""
        self._opened = await in_thread(host.open_machine, self._configuration)
        try:
            await host.trial(self._opened)
        except BaseException:
            # Apps of an earlier gateway may run: they keep the firewall that holds them.
            if not self._opened.places():
                await in_thread(host.close_machine, self._opened, self._configuration)
            self._opened = None
            raise
        keeping = self._opened.collecting.keep()
        self._tending = [asyncio.create_task(task) for task in (self._tend(), keeping)]
        version = self._opened.cgroups.hierarchy.version
        return f"root: namespaces, seccomp, nftables, cgroup v{version}, loop disks"

    async def check(self) -> None:
        """As `Runtime.check`: open, and the packet filter of the apps is in place."""
        if self._opened is None:
            raise IsolationMissing(("the sandbox is closed",))
        if not await in_thread(firewall.is_loaded, self.instance_id):
            raise IsolationMissing(("the packet filter of the apps is gone",))

    async def close(self, *, stop_apps: bool) -> None:
        """As `Runtime.close`. Without `stop_apps` the firewall stays too."""
        for task in self._tending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tending = []
        if self._opened is None:
            return
        if stop_apps:
            ids = await self.known()
            await asyncio.gather(*(self.stop(deployment_id) for deployment_id in ids))
            await in_thread(host.close_machine, self._opened, self._configuration)
        self._opened = None

    async def build(self, spec: BuildSpec) -> None:
        """As `Runtime.build`."""
        async with self._alone(spec.deployment_id) as place, self._making(place) as slot:
            await build.make(place, slot, spec)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Runtime.copy`. An app that writes meanwhile waits for up to FREEZE_SECONDS."""
        first, second = sorted({origin_id, deployment_id})  # two copies never wait for each other
        async with self._alone(first), self._alone(second):
            origin, place = self._place(origin_id), self._place(deployment_id)
            if origin.record is None or origin.record.stage in (Stage.BUILDING, Stage.FAILED):
                raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to copy")
            async with self._making(place) as slot:
                await in_thread(place.copy_disk, slot, origin)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Runtime.start`."""
        async with self._alone(spec.deployment_id) as place:
            record = place.record
            if record is None or record.stage in (Stage.BUILDING, Stage.FAILED):
                raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to start")
            if (instance := await in_thread(self._live, place, record)) is not None:
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
            await to_its_end(self._halt(place))
            if (record := place.record) is not None:
                await in_thread(place.abandon, record)

    async def remove(self, deployment_id: str) -> None:
        """As `Runtime.remove`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))
            await in_thread(place.remove)

    async def volumes(self) -> set[str]:
        """As `Runtime.volumes`."""
        return {path.name for path in self._machine.volumes.iterdir()}

    async def remove_volume(self, volume_id: str) -> None:
        """As `Runtime.remove_volume`."""
        await in_thread(self._machine.volume(_checked(volume_id)).remove)

    async def running(self) -> dict[str, Instance]:
        """As `Runtime.running`."""
        return await in_thread(self._running)

    async def connections(self, deployment_id: str) -> int:
        """As `Runtime.connections`: of the app's own port, not of the door's socket."""
        return await in_thread(app.connections, self._place(deployment_id))

    async def usage(self) -> dict[str, Usage]:
        """As `Runtime.usage`."""
        return await in_thread(self._usage)

    async def known(self) -> set[str]:
        """As `Runtime.known`."""
        return self._machine.known()

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        """As `Runtime.exit_reason`; None for an app that was never started.

        When it tells of an end, all that the app wrote is in its log.
        """
        place = self._place(deployment_id)
        record = place.record
        ended = None if record is None else app.exit_of(place, record)
        if ended is not None:
            await in_thread(place.logs.drain, LogKind.RUNTIME)
        return ended

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
        """As `Runtime.note`; what can't be written is left out."""
        self._place(deployment_id).logs.note(LogKind.RUNTIME, text)

    @property
    def _machine(self) -> Machine:
        if self._opened is None:
            raise RuntimeError("the sandbox is not open")
        return self._opened

    def _place(self, deployment_id: str) -> Place:
        return self._machine.place(_checked(deployment_id))

    @asynccontextmanager
    async def _alone(self, deployment_id: str) -> AsyncIterator[Place]:
        place = self._place(deployment_id)
        lock = self._locks.setdefault(deployment_id, asyncio.Lock())
        async with lock:
            yield place

    @asynccontextmanager
    async def _making(self, place: Place) -> AsyncIterator[Slot]:
        """An empty place with a slot: built when all goes well, else only its log is kept."""
        slot = await in_thread(place.begin)
        try:
            yield slot
        except BaseException:
            await in_thread(place.abandon, _record(place, slot, Stage.BUILDING))
            raise
        await in_thread(place.write, _record(place, slot, Stage.BUILT))

    async def _start(
        self, place: Place, record: Record, spec: InstanceSpec, timeout_seconds: float
    ) -> Instance:
        slot = await in_thread(place.revive, record)
        if not app.is_running(place):
            self._settled.discard(place.deployment_id)
            await self._machine.toolchains.show(spec.plan.toolchains)
            await in_thread(place.write, _started(place, slot, spec))
            try:
                await in_thread(app.launch, place, slot, spec)
            except OSError as error:
                raise disk_failure(error, spec.limits.disk_bytes) from error
        listener = await app.wait_listening(place, slot, spec, timeout_seconds=timeout_seconds)
        await in_thread(app.open_door, place, slot, listener)
        await in_thread(place.write, _started(place, slot, spec, listener=listener))
        return _instance(place, listener)

    def _running(self) -> dict[str, Instance]:
        found = {}
        for place in self._with_apps():
            record = place.record
            if record is not None and (instance := self._live(place, record, believe=True)):
                found[place.deployment_id] = instance
        self._hearing.forget(but=found)
        return found

    def _with_apps(self) -> list[Place]:
        """The places whose apps may run: a thousand that sleep cost nothing."""
        ids = (app_of(group) for group in self._machine.cgroups.names())
        return [self._machine.place(name) for name in sorted(filter(None, ids))]

    def _usage(self) -> dict[str, Usage]:
        found = {}
        for place in self._with_apps():
            if (usage := self._machine.cgroups.usage(place.app_group)) is not None:
                found[place.deployment_id] = usage
        return found

    def _live(self, place: Place, record: Record, *, believe: bool = False) -> Instance | None:
        """The app, if it runs, listens where its door leads, and the door is open.

        With `believe`, one that lately listened and runs still is taken to do so.
        """
        if record.listener is None or not app.is_open(place, record):
            return None
        if not (believe and self._hearing.is_recent(place.deployment_id)):
            listens = app.listens(place, record)
            self._hearing.note(place.deployment_id, listens=listens)
            if not listens:
                return None
        return _instance(place, record.listener)

    async def _halt(self, place: Place) -> None:
        """Stop the app and keep how it ended, before what knew it is taken away."""
        record = place.record
        if record is None:
            return
        await app.stop(place, grace_seconds=self._stop_grace_seconds)
        await asyncio.to_thread(place.logs.drain, LogKind.RUNTIME)
        ended = app.exit_of(place, record)
        if ended is not None:
            record = msgspec.structs.replace(
                record, exit_code=ended.exit_code, out_of_memory=ended.out_of_memory, listener=None
            )
            place.write(record)
        await asyncio.to_thread(place.dismiss, record)

    async def _tend(self) -> None:
        """Now and then: see to the firewall, and end the start's larger share of processor time."""
        while True:
            await asyncio.sleep(_TEND_EVERY_SECONDS)
            await in_thread(self.tend)

    def tend(self) -> None:
        """What is done every few seconds, once; blocks."""
        host.keep_firewall(self._machine, self._configuration)
        for place in self._with_apps():
            try:
                self._tend_place(place)
            except OSError as error:  # it may be on its way out just now
                logger.warning("deployment %s can't be tended: %s", place.deployment_id, error)

    def _tend_place(self, place: Place) -> None:
        record = place.record
        if record is None or record.listener is None or record.cpu_millis is None:
            return
        if place.deployment_id not in self._settled and app.is_running(place):
            place.machine.cgroups.set_cpu(place.app_group, record.cpu_millis)
            self._settled.add(place.deployment_id)


def _checked(name: str) -> str:
    """A deployment's or a volume's id, which becomes part of paths. Raises ValueError."""
    if not _DEPLOYMENT_ID.match(name):
        raise ValueError(f"{name!r} can't name a deployment or a volume")
    return name


def _record(place: Place, slot: Slot, stage: Stage) -> Record:
    return Record(deployment_id=place.deployment_id, slot=slot.number, stage=stage)


def _started(
    place: Place, slot: Slot, spec: InstanceSpec, *, listener: Listener | None = None
) -> Record:
    return Record(
        deployment_id=place.deployment_id,
        slot=slot.number,
        stage=Stage.STARTED,
        cpu_millis=spec.limits.cpu_millis,
        listener=listener,
    )


def _instance(place: Place, listener: Listener) -> Instance:
    return Instance(deployment_id=place.deployment_id, socket=place.socket, port=listener.port)
