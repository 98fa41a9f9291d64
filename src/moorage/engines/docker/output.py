"""Follows what an app's container writes, into the app's log.

Docker keeps the output in a file of limited size, also while no gateway runs: the next one goes on
behind the last line that is in the log.
"""

import asyncio
import logging
import struct
from collections.abc import Callable
from datetime import UTC, datetime

from moorage.clock import Clock
from moorage.engines.docker.daemon import Daemon, DaemonFailed, NotFound
from moorage.engines.logs.intake import Budget, Entry, Intake
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.store import ERR, OUT
from moorage.process import ProcessRecord, is_running, wait_until_ended
from moorage.records.log import LogKind
from moorage.threads import in_thread

_HEADER = struct.Struct(">BxxxL")  # stream, length (Docker Engine API, ContainerAttach)
_LETTERS = {1: OUT, 2: ERR}
_BATCH_SECONDS = 0.05  # lines of this time are written together
_READ_BYTES_A_SECOND = 8 * 1024 * 1024  # a flood must not hold the gateway
_AGAIN_SECONDS = 1.0
_DRAIN_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Follower:
    """Follows one container, until it has ended and all of its output is in the log."""

    def __init__(self, daemon: Daemon, container_id: str, logs: Logs, clock: Clock) -> None:
        self._daemon = daemon
        self._container_id = container_id
        self._logs = logs
        self._clock = clock
        budget = Budget(clock.monotonic_seconds())
        self._intakes = {number: Intake(letter, budget) for number, letter in _LETTERS.items()}
        self._last_ms = 0

    async def run(self, *, is_running: Callable[[], bool]) -> None:
        """Follows, over failures of the daemon, while the container runs."""
        self._last_ms = await in_thread(self._logs.last_ms, LogKind.RUNTIME)
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
        since_ms = self._last_ms + 1 if self._last_ms else 0
        async with self._daemon.output(self._container_id, since_ms=since_ms) as stream:
            rest = b""
            while chunk := await stream.readany():
                frames, rest = split_frames(rest + chunk)
                await in_thread(self._write, frames)
                await asyncio.sleep(max(_BATCH_SECONDS, len(chunk) / _READ_BYTES_A_SECOND))
        await in_thread(self._flush)

    def _write(self, frames: list[tuple[int, bytes]]) -> None:
        for number, frame in frames:
            moment, _, text = frame.partition(b" ")
            self._last_ms = max(self._last_ms, parse_ms(moment) or self._clock.now_ms())
            line = text if text.endswith(b"\n") else text + b"\n"
            self._append(self._intakes[number].take(line, self._clock.monotonic_seconds()))

    def _flush(self) -> None:
        for intake in self._intakes.values():
            self._append(intake.flush())

    def _append(self, entries: list[Entry]) -> None:
        for letter, texts in entries:
            self._logs.append(LogKind.RUNTIME, letter, texts, at_ms=self._last_ms)


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


def parse_ms(moment: bytes) -> int | None:
    """Returns a time such as 2026-01-31T10:00:00.123456789Z in Unix milliseconds."""
    try:
        whole, _, fraction = moment.decode().rstrip("Z").partition(".")
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
        return int(seconds) * 1000 + int(fraction[:3].ljust(3, "0") or 0)
    except ValueError:
        return None


class Followers:
    """Follows every running container of a gateway, and tells of their ends."""

    def __init__(self, daemon: Daemon, clock: Clock, tell: Callable[[str], None]) -> None:
        self._daemon = daemon
        self._clock = clock
        self._tell = tell  # is called with the deployment's id when its app has ended
        self._outputs: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}

    def begin(
        self, deployment_id: str, container_id: str, process: ProcessRecord, logs: Logs
    ) -> None:
        """Starts to follow a container, in place of an earlier one of the deployment."""
        self._cancel(deployment_id)
        follower = Follower(self._daemon, container_id, logs, self._clock)
        following = follower.run(is_running=lambda: is_running(process))
        self._outputs[deployment_id] = asyncio.create_task(following)
        self._ends[deployment_id] = asyncio.create_task(self._wait(deployment_id, process))

    async def drained(self, deployment_id: str) -> None:
        """Waits until all output of an app that has ended is in its log, or for some seconds."""
        if (task := self._outputs.get(deployment_id)) is not None:
            await asyncio.wait([task], timeout=_DRAIN_SECONDS)

    def forget(self, deployment_id: str) -> None:
        """Ends the following of an app that has ended, and was drained."""
        self._cancel(deployment_id)

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
        self._tell(deployment_id)

    def _cancel(self, deployment_id: str) -> None:
        for tasks in (self._outputs, self._ends):
            if (task := tasks.pop(deployment_id, None)) is not None:
                task.cancel()
