"""What the two runtimes on this machine have in common: order among calls, logs, tasks, the end."""

import asyncio
import contextlib
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from moorage.engines.engine import Cursor, Incident, Instance, InstanceSpec, LogPage
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Machine, Place
from moorage.engines.host.exit_watcher import ExitWatcher
from moorage.errors import DeployFailed, FailureCause
from moorage.records.log import LogKind
from moorage.threads import in_thread, to_its_end

_ENDING_SECONDS = 1.0  # how long an app may take to end that listens no more
_POLL_SECONDS = 0.005
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")

M = TypeVar("M", bound=Machine[Any])
P = TypeVar("P", bound=Place)

logger = logging.getLogger(__name__)


class Local(ABC, Generic[M, P]):
    """An `Engine` but for how it isolates. Of one object, each deployment's calls wait in turn.

    `M` is the machine as that way of isolating has it, `P` a deployment's place there.
    """

    def __init__(self, configuration: HostConfiguration) -> None:
        self._configuration = configuration
        self._opened: M | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._ends = ExitWatcher(self._shut)

    @abstractmethod
    def _close_machine(self, machine: M) -> None:
        """Take away what all apps shared; they are stopped. Blocks."""

    @abstractmethod
    def _live(self, place: P) -> Instance | None:
        """The app, if it runs, listens where its door leads, and the door is open. Blocks."""

    @abstractmethod
    def _is_running(self, place: P) -> bool:
        """Whether the app has a process. Blocks for microseconds."""

    @abstractmethod
    def _has_ended(self, place: P) -> bool:
        """Whether the app's command has, though other processes may still be about to end."""

    @abstractmethod
    async def _start(self, place: P, spec: InstanceSpec, timeout_seconds: float) -> Instance:
        """Start what does not run of the app and its door; may leave half of it."""

    @abstractmethod
    async def _halt(self, place: P) -> None:
        """Stop the app, if there is one, and keep how it ended."""

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`. Without `stop_apps` the packet filter stays too."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self._ends.close()
        if self._opened is None:
            return
        if stop_apps:
            ids = await self.known()
            await asyncio.gather(*(self.stop(deployment_id) for deployment_id in ids))
            await in_thread(self._close_machine, self._opened)
        self._opened = None

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Engine.start`."""
        async with self._alone(spec.deployment_id) as place:
            require_built(place, "start")
            if (instance := await in_thread(self._live, place)) is not None:
                return instance
            try:
                return await self._start(place, spec, timeout_seconds)
            except BaseException:
                await to_its_end(self._halt(place))
                raise

    async def stop(self, deployment_id: str) -> None:
        """As `Engine.stop`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))

    async def discard(self, deployment_id: str) -> None:
        """As `Engine.discard`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))
            if place.record is not None:
                await in_thread(place.abandon)

    async def remove(self, deployment_id: str) -> None:
        """As `Engine.remove`."""
        async with self._alone(deployment_id) as place:
            await to_its_end(self._halt(place))
            await in_thread(place.remove)

    async def instance(self, deployment_id: str) -> Instance | None:
        """As `Engine.instance`."""
        place = self._place(deployment_id)
        found = await in_thread(self._live, place)
        if found is None:
            await self._wait_ended(place)
        return found

    def memory_bytes(self) -> int:
        """As `Engine.memory_bytes`."""
        return self._machine.shares.apps_bytes

    async def confine(self, service: str, pid: int, *, memory_bytes: int) -> bool:
        """As `Engine.confine`."""
        groups = self._machine.cgroups
        if groups is None:
            return False
        await in_thread(groups.confine, service, pid, memory_bytes=memory_bytes)
        return True

    async def next_exit(self) -> str:
        """As `Engine.next_exit`."""
        return await self._ends.next()

    async def next_incident(self) -> Incident:
        """As `Engine.next_incident`."""
        return await self._machine.incidents.next()

    async def known(self) -> set[str]:
        """As `Engine.known`."""
        return self._machine.known()

    async def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """As `Engine.log_tail`."""
        return await in_thread(self._place(deployment_id).logs.tail, kind, max_bytes)

    async def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: Cursor = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        """As `Engine.read_log`."""
        logs = self._place(deployment_id).logs
        return await in_thread(
            logs.read, kind, after=after, since_ms=since_ms, tail=tail, limit=limit
        )

    async def note(self, deployment_id: str, text: str) -> None:
        """As `Engine.note`; what can't be written is left out."""
        await in_thread(self._place(deployment_id).logs.note, LogKind.RUNTIME, text)

    @property
    def _machine(self) -> M:
        if self._opened is None:
            raise RuntimeError("the runtime is not open")
        return self._opened

    def _place(self, deployment_id: str) -> P:
        place: P = self._machine.place(checked(deployment_id))
        return place

    @asynccontextmanager
    async def _alone(self, deployment_id: str) -> AsyncIterator[P]:
        place = self._place(deployment_id)
        lock = self._locks.setdefault(deployment_id, asyncio.Lock())
        async with lock:
            yield place

    def _watch_ends(self, places: Iterable[P]) -> None:
        """Have the ends of apps told: of these, which run already, and of those to come."""
        self._machine.incidents.open()
        self._ends.open()
        for place in places:
            self._ends.watch(place.deployment_id, place.status_file)

    def _shut(self, deployment_id: str) -> bool:
        """Let nobody in where the app has ended; False where it has not, or somebody sees to it."""
        lock = self._locks.get(deployment_id)
        place = self._place(deployment_id)
        if (lock is not None and lock.locked()) or not self._has_ended(place):
            return False
        place.socket.unlink(missing_ok=True)
        return True

    async def _is_gone(self, place: P) -> bool:
        """Whether the app has no process; once its command has ended, the others are waited for."""
        if self._has_ended(place):
            await self._wait_ended(place)
        return not self._is_running(place)

    async def _wait_ended(self, place: P) -> None:
        """Until the app has ended, or for as long as that may take."""
        now = place.machine.clock.monotonic_seconds
        deadline = now() + _ENDING_SECONDS
        while self._is_running(place) and now() < deadline:  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(_POLL_SECONDS)

    def _keep(self, *tasks: Coroutine[Any, Any, None]) -> None:
        """Have these run until the runtime is closed."""
        self._tasks = [asyncio.create_task(task) for task in tasks]


async def repeat(act: Callable[[], None], *, every_seconds: float) -> None:
    """Do what blocks again and again, whether or not it raises OSError."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await in_thread(act)
        except OSError as error:  # some app may be on its way out just now
            logger.warning("apps can't be seen to: %s", error)


def checked(name: str) -> str:
    """A deployment's or a volume's id, which becomes part of paths. Raises ValueError."""
    if not _ID.match(name):
        raise ValueError(f"{name!r} can't name a deployment or a volume")
    return name


def require_built(place: Place, to: str) -> None:
    """Raise DeployFailed unless there is a finished build, to be started or copied."""
    record = place.record
    if record is None or not record.is_built:
        raise DeployFailed(FailureCause.INTERRUPTED, f"there is no finished build to {to}")
