"""The common part of the engines on this machine: locking per deployment, logs, tasks, exits."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from moorage.archive.tree import Tree
from moorage.engines.disks.volume import Volume
from moorage.engines.engine import (
    AppExit,
    AppState,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
    Keep,
    NewVolume,
    Usage,
)
from moorage.engines.failure import not_built, not_taken_along
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import DeploymentDirectory, Host
from moorage.engines.host.processes import ExitWatcher
from moorage.engines.locks import Locks, checked
from moorage.engines.logs.logs import LogReading, Logs
from moorage.loop import until_tick
from moorage.threads import in_thread, to_its_end

_ENDING_SECONDS = 1.0  # how long to wait for the end of an app that has stopped listening
_POLL_SECONDS = 0.005

H = TypeVar("H", bound=Host[Any])
D = TypeVar("D", bound=DeploymentDirectory)

logger = logging.getLogger(__name__)


class LocalEngine(LogReading, ABC, Generic[H, D]):
    """An `Engine` without the isolation. Calls for the same deployment run one after the other.

    `H` and `D` are the subclass's types of host and deployment directory.
    """

    def __init__(self, configuration: HostConfiguration) -> None:
        self._configuration = configuration
        self._opened: H | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._locks = Locks()
        self._exits = ExitWatcher(self._ended)

    @abstractmethod
    def _close_host(self, host: H) -> None:
        """Removes what all apps shared; they are stopped. Blocks."""

    @abstractmethod
    def _live(self, directory: D) -> Instance | None:
        """Returns the app if it and its proxy run, and it listens on the proxy's target. Blocks."""

    @abstractmethod
    def _is_running(self, directory: D) -> bool:
        """Returns whether the app has a process. Blocks for microseconds."""

    @abstractmethod
    def _has_ended(self, directory: D) -> bool:
        """Returns whether the app's command has ended; other processes may still be ending."""

    @abstractmethod
    def _running(self) -> dict[str, Instance]:
        """Returns the apps that run and listen. Blocks."""

    @abstractmethod
    def _usage(self) -> dict[str, Usage]:
        """Returns what running apps have used. Blocks."""

    @abstractmethod
    async def _exit(self, directory: D) -> AppExit | None:
        """Returns how the app ended, once all that it wrote is in its log; else None."""

    @abstractmethod
    async def _start(self, directory: D, spec: InstanceSpec, timeout_seconds: float) -> Instance:
        """Starts the app and its socket proxy; if it fails, one of them may still run."""

    @abstractmethod
    async def _halt(self, directory: D) -> None:
        """Stops the app, if it runs, and records how it ended."""

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`. Without `stop_apps`, the packet filter stays too."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self._exits.close()
        if self._opened is None:
            return
        if stop_apps:
            ids = await self.known()
            await asyncio.gather(*(self.stop(deployment_id) for deployment_id in ids))
            await in_thread(self._close_host, self._opened)
        self._opened = None

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Engine.start`."""
        async with self._alone(spec.deployment_id) as directory:
            require_built(directory, "start")
            if (instance := await in_thread(self._live, directory)) is not None:
                return instance
            try:
                return await self._start(directory, spec, timeout_seconds)
            except BaseException:
                await to_its_end(self._halt(directory))
                raise

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        """As `Engine.stop`."""
        async with self._alone(deployment_id) as directory:
            await to_its_end(self._halt(directory))
            if keep is Keep.NOTHING:
                await in_thread(directory.remove)
            elif keep is Keep.LOGS and directory.record is not None:
                await in_thread(directory.abandon)

    async def inspect(self, deployment_id: str) -> AppState:
        """As `Engine.inspect`."""
        directory = self._directory(deployment_id)
        instance = await in_thread(self._live, directory)
        if instance is not None:
            return AppState(instance=instance)
        await self._wait_ended(directory)
        return AppState(exit=await self._exit(directory))

    async def running(self) -> dict[str, Instance]:
        """As `Engine.running`."""
        return await in_thread(self._running)

    async def usage(self) -> dict[str, Usage]:
        """As `Engine.usage`."""
        return await in_thread(self._usage)

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`."""
        return self._host.volumes.ids()

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        """As `Engine.read_volume`."""
        if written_by:
            return await self._read_written(written_by, target, max_bytes=max_bytes)
        return await in_thread(self._volume(volume_id).read, target, max_bytes=max_bytes)

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        """As `Engine.write_volume`."""
        made = self._volume(volume.volume_id)
        await in_thread(made.write, tree, size_bytes=volume.size_bytes)

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        """As `Engine.delete_volume`."""
        await in_thread(self._volume(volume_id).delete, unless_used=unless_used)

    async def next_incident(self) -> Incident:
        """As `Engine.next_incident`."""
        return await self._host.incidents.next()

    async def known(self) -> set[str]:
        """As `Engine.known`."""
        return self._host.known()

    async def _read_written(
        self, deployment_id: str, target: Path, *, max_bytes: int | None
    ) -> Tree | None:
        """As `Engine.read_volume` with `written_by`; an engine may keep nothing."""
        del deployment_id, target, max_bytes
        raise not_taken_along("its engine keeps none")

    def _volume(self, volume_id: str) -> Volume:
        return self._host.volumes.volume(checked(volume_id))

    def _logs(self, deployment_id: str) -> Logs:
        return self._directory(deployment_id).logs

    @property
    def _host(self) -> H:
        if self._opened is None:
            raise RuntimeError("the runtime is not open")
        return self._opened

    def _directory(self, deployment_id: str) -> D:
        directory: D = self._host.directory(checked(deployment_id))
        return directory

    @asynccontextmanager
    async def _alone(self, deployment_id: str) -> AsyncIterator[D]:
        directory = self._directory(deployment_id)
        async with self._locks.alone(deployment_id):
            yield directory

    def _watch_exits(self, directories: Iterable[D]) -> None:
        """Starts to report exits and incidents, also of these apps, which run already."""
        self._host.incidents.open()
        self._exits.open()
        for directory in directories:
            self._exits.watch(directory.deployment_id, directory.status_file)

    def _ended(self, deployment_id: str) -> None:
        """Closes the address of an app that has ended, and reports it.

        Does nothing if the app has not ended, or another call is working on it.
        """
        directory = self._directory(deployment_id)
        if self._locks.is_held(deployment_id) or not self._has_ended(directory):
            return
        directory.socket.unlink(missing_ok=True)
        self._host.incidents.add(Incident(deployment_id, IncidentKind.ENDED))

    async def _is_gone(self, directory: D) -> bool:
        """Returns whether the app has no process; waits for them if its command has ended."""
        if self._has_ended(directory):
            await self._wait_ended(directory)
        return not self._is_running(directory)

    async def _wait_ended(self, directory: D) -> None:
        """Waits until the app has no process, for _ENDING_SECONDS at most."""
        now = directory.host.clock.monotonic_seconds
        deadline = now() + _ENDING_SECONDS
        while self._is_running(directory) and now() < deadline:  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(_POLL_SECONDS)

    def _keep(self, *tasks: Coroutine[Any, Any, None]) -> None:
        """Runs these tasks until the engine is closed."""
        self._tasks = [asyncio.create_task(task) for task in tasks]


async def repeat(act: Callable[[], None], *, every_seconds: float) -> None:
    """Calls `act` in a thread every `every_seconds`; logs OSError and continues."""
    while True:
        await asyncio.sleep(until_tick(every_seconds))
        try:
            await in_thread(act)
        except OSError as error:  # an app may be ending at this moment
            logger.warning("apps can't be seen to: %s", error)


def require_built(directory: DeploymentDirectory, to: str) -> None:
    """Raises DeployFailed unless there is a finished build; `to` says for what."""
    record = directory.record
    if record is None or not record.is_built:
        raise not_built(to)
