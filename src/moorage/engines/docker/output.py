"""Follows what an app's container writes, into the app's log.

Docker keeps the output in a file of limited size, also while no gateway runs: the next one
continues behind the last line that it has put into the log, whose time is in a file. A crash of the
gateway may double the lines of a moment.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable
from pathlib import Path

from aiohttp import StreamReader

from moorage.clock import Clock
from moorage.engines.dockerd.daemon import Daemon, DaemonFailed, NotFound
from moorage.engines.logs.collector import Budget, Entry, Intake
from moorage.engines.logs.logs import Logs, parse_ns
from moorage.engines.logs.store import ERR, OUT
from moorage.process import ProcessRecord, is_running, wait_until_ended
from moorage.records.deployment import LogKind
from moorage.threads import in_thread
from moorage.whole_file import replace_file

_POSITION = "followed"  # a container's id, and the time of the last line that is in the log
_NS_A_MS = 1_000_000
_REST_SECONDS = 1.0  # after which what was held back is written
_HEADER = struct.Struct(">BxxxL")  # stream, length (Docker Engine API, ContainerAttach)
_LETTERS = {1: OUT, 2: ERR}
_BATCH_SECONDS = 0.05  # lines of this time are written together
_READ_BYTES_A_SECOND = 8 * 1024 * 1024  # a flood must not hold the gateway
_AGAIN_SECONDS = 1.0
_DRAIN_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Follower:
    """Follows one container, until it has ended and all of its output is in the log."""

    def __init__(
        self, daemon: Daemon, container_id: str, logs: Logs, kind: LogKind, clock: Clock
    ) -> None:
        self._daemon = daemon
        self._container_id = container_id
        self._logs = logs
        self._kind = kind
        self._position = logs.directory / _POSITION
        self._clock = clock
        budget = Budget(clock.monotonic_seconds())
        self._intakes = {number: Intake(letter, budget) for number, letter in _LETTERS.items()}
        self._last_ns = 0

    async def run(self, *, is_running: Callable[[], bool]) -> None:
        """Follows, over failures of the daemon, while the container runs."""
        self._last_ns = _read(self._position, self._container_id)
        while True:
            running = is_running()
            try:
                await self._follow()
            except NotFound:
                return
            except DaemonFailed as error:
                logger.warning("the output of container %s: %s", self._container_id, error)
            if not running:  # it had ended before the last reading began
                return
            await asyncio.sleep(_AGAIN_SECONDS if is_running() else 0)

    async def _follow(self) -> None:
        since_ns = self._last_ns + 1
        async with self._daemon.output(self._container_id, since_ns=since_ns) as stream:
            rest = b""
            while chunk := await self._read(stream):
                frames, rest = split_frames(rest + chunk)
                await in_thread(self._write, frames)
                await asyncio.sleep(max(_BATCH_SECONDS, len(chunk) / _READ_BYTES_A_SECOND))
        await in_thread(self._flush)

    async def _read(self, stream: StreamReader) -> bytes:
        """Returns what has come; writes what was held back as soon as nothing comes."""
        while True:
            waits = any(intake.pending for intake in self._intakes.values())
            try:
                async with asyncio.timeout(_REST_SECONDS if waits else None):
                    return await stream.readany()
            except TimeoutError:
                await in_thread(self._flush)

    def _write(self, frames: list[tuple[int, bytes]]) -> None:
        for number, frame in frames:
            moment, _, text = frame.partition(b" ")
            self._last_ns = max(self._last_ns, parse_ns(moment) or 0)
            line = text if text.endswith(b"\n") else text + b"\n"
            self._append(self._intakes[number].take(line, self._clock.monotonic_seconds()))
        with contextlib.suppress(OSError):  # the deployment is gone, or the disk is full
            position = f"{self._container_id} {self._last_ns}"
            replace_file(self._position, position.encode())

    def _flush(self) -> None:
        for intake in self._intakes.values():
            self._append(intake.flush())

    def _append(self, entries: list[Entry]) -> None:
        for letter, texts in entries:
            self._logs.append(self._kind, letter, texts, at_ms=self._last_ns // _NS_A_MS)


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Returns the whole frames in `data`, as number of the stream and line, and what is left."""
    found, offset = [], 0
    while len(data) - offset >= _HEADER.size:
        number, length = _HEADER.unpack_from(data, offset)
        end = offset + _HEADER.size + length
        if end > len(data):
            break
        found.append((number, data[offset + _HEADER.size : end]))
        offset = end
    return found, data[offset:]


def _read(position: Path, container_id: str) -> int:
    """Returns the time of the last line that is in the log, of this container; 0 for none."""
    try:
        container, _, nanoseconds = position.read_text().partition(" ")
        return int(nanoseconds) if container == container_id else 0
    except (FileNotFoundError, ValueError):
        return 0


class Followers:
    """Follows every running container of a gateway, and reports their ends."""

    def __init__(self, daemon: Daemon, clock: Clock, on_end: Callable[[str], None]) -> None:
        self._daemon = daemon
        self._clock = clock
        self._on_end = on_end  # is called with the deployment's id when its app has ended
        self._outputs: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}

    def begin(
        self,
        deployment_id: str,
        container_id: str,
        process: ProcessRecord | None,
        logs: Logs,
        kind: LogKind,
    ) -> None:
        """Starts to follow a container, in place of an earlier one of the deployment.

        Without a process, it has ended already: what it has written is read.
        """
        self._cancel(deployment_id)
        follower = Follower(self._daemon, container_id, logs, kind, self._clock)
        following = follower.run(is_running=lambda: process is not None and is_running(process))
        self._outputs[deployment_id] = asyncio.create_task(following)
        if process is not None:
            self._ends[deployment_id] = asyncio.create_task(self._wait(deployment_id, process))

    async def drained(self, deployment_id: str) -> None:
        """Waits until all output of an app that has ended is in its log, or for some seconds."""
        if (task := self._outputs.get(deployment_id)) is not None:
            await asyncio.wait([task], timeout=_DRAIN_SECONDS)

    async def forget(self, deployment_id: str) -> None:
        """Ends the following of an app that has ended, and was drained."""
        await asyncio.gather(*self._cancel(deployment_id), return_exceptions=True)

    async def close(self) -> None:
        """Ends all following; what is not read yet, the next gateway reads."""
        tasks = [*self._outputs.values(), *self._ends.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._outputs.clear()
        self._ends.clear()

    async def _wait(self, deployment_id: str, process: ProcessRecord) -> None:
        await wait_until_ended(process)
        self._on_end(deployment_id)

    def _cancel(self, deployment_id: str) -> list[asyncio.Task[None]]:
        both = (self._outputs.pop(deployment_id, None), self._ends.pop(deployment_id, None))
        tasks = [task for task in both if task is not None]
        for task in tasks:
            task.cancel()
        return tasks
