"""Follows what apps' pods write, into the apps' logs.

The kubelet keeps the output of a pod's container, and of the one before it in the same pod, until
the pod is gone; also while no gateway runs. The next one continues behind the last line that it has
put into the log, whose time is in a file. What was not read when a pod went is lost, and a crash of
the gateway may double the lines of a moment. The API does not separate streams: all is `stdout`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from moorage.clock import Clock
from moorage.engines.kubernetes.cluster.client import (
    LOG_LINE_BYTES,
    Cluster,
    NotFound,
    Refused,
    batches,
)
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.objects.app import CONTAINER
from moorage.engines.logs.collector import Budget, Entry, Intake
from moorage.engines.logs.logs import Fresh, Position, parse_ns, to_second
from moorage.engines.logs.shared import SharedLogs
from moorage.engines.logs.store import OUT
from moorage.errors import ClusterUnavailable, ContentUnavailable
from moorage.records.deployment import LogKind
from moorage.threads import in_thread

POSITION = "followed"
"""The name of the file with how far an app's output was followed."""

_NS_A_MS = 1_000_000
_BATCH_SECONDS = 0.05  # lines of this time are written together
_REST_SECONDS = 1.0  # after which what was held back is written
_BYTES_A_SECOND = 8 * 1024 * 1024  # a flood must not hold the gateway
_SILENCE_SECONDS = 300.0  # then it is asked again: the connection may be dead
_AGAIN_SECONDS = 0.5
_STORE_SECONDS = 5.0  # after which a store that was away is asked again
_DRAIN_SECONDS = 5.0
_QUEUED = 256  # lines that were read and are not written yet

logger = logging.getLogger(__name__)

Arrivals: TypeAlias = "asyncio.Queue[bytes | Exception | None]"
"""Lines; at the end None, or what went wrong."""


class Follower:
    """Follows the app's container in one pod, through its starts, until the pod is gone."""

    def __init__(self, source: Cluster, pod: Pod, logs: SharedLogs, clock: Clock) -> None:
        self._source = source
        self._pod = pod
        self._shared = logs
        self._logs = logs.of(pod.deployment_id)
        self._clock = clock
        self._path = self._logs.directory / POSITION
        self._position = Position(source=pod.name)
        self._intake = Intake(OUT, Budget(clock.monotonic_seconds()))
        self.is_at_end = asyncio.Event()
        """Whether all is in the log that the container wrote which ended last."""

    def see(self, pod: Pod | None) -> None:
        """Takes in the pod's state; None when it is gone."""
        if pod is None or not pod.is_running:
            return
        if pod.starts != self._pod.starts:
            self.is_at_end.clear()
        self._pod = pod

    async def run(self, *, is_there: Callable[[], bool]) -> None:
        """Follows, over failures of the cluster, as long as the pod is there."""
        try:
            await self._adopt(is_there)
            self._position = await in_thread(Position.read, self._path, source=self._pod.name)
            while True:
                there = is_there()
                await self._follow_safely()
                if not there:  # it was gone before the last reading began
                    return
                await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            self.is_at_end.set()

    async def _adopt(self, is_there: Callable[[], bool]) -> None:
        """Goes on with the log of another gateway; waits for a store, as the kubelet waits too."""
        while True:
            try:
                return await self._shared.adopt(self._pod.deployment_id)
            except ContentUnavailable as error:
                if not is_there():
                    raise
                logger.warning("the log of pod %s waits: %s", self._pod.name, error)
                await asyncio.sleep(_STORE_SECONDS)

    async def _follow_safely(self) -> None:
        try:
            if self._pod.starts > self._position.starts and self._position.last_ns:
                with contextlib.suppress(Refused):  # the kubelet has forgotten it
                    await self._follow({"previous": "true"})
            self._position = msgspec.structs.replace(self._position, starts=self._pod.starts)
            await self._follow({"follow": "true"})
            self.is_at_end.set()
        except NotFound:
            self.is_at_end.set()
        except (ClusterUnavailable, Refused) as error:  # 400: its container has not started yet
            logger.info("the output of pod %s: %s", self._pod.name, error)

    async def _follow(self, how: Mapping[str, str]) -> None:
        params = {"container": CONTAINER, "timestamps": "true", **how}
        if self._position.last_ns:
            params["sinceTime"] = to_second(self._position.last_ns)
        fresh = Fresh(self._position)
        queue: Arrivals = asyncio.Queue(_QUEUED)
        reading = asyncio.create_task(self._read(params, queue))
        try:
            while (batch := await self._next(queue)) is not None:
                await in_thread(self._write, batch, fresh)
                size = sum(map(len, batch))
                await asyncio.sleep(max(_BATCH_SECONDS, size / _BYTES_A_SECOND))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await in_thread(self._flush)

    async def _read(self, params: Mapping[str, str], queue: Arrivals) -> None:
        end: Exception | None = None
        try:
            async with self._source.log(
                namespace=self._pod.namespace,
                pod=self._pod.name,
                params=params,
                silence_seconds=_SILENCE_SECONDS,
            ) as chunks:
                async for batch in batches(chunks, max_bytes=LOG_LINE_BYTES):
                    for line in batch:
                        await queue.put(line)
        except (Refused, ClusterUnavailable) as error:
            end = error
        await queue.put(end)

    async def _next(self, queue: Arrivals) -> list[bytes] | None:
        """Returns lines that have come; None after the last. Raises what ended the reading.

        Writes what was held back as soon as nothing comes.
        """
        while True:
            try:
                async with asyncio.timeout(_REST_SECONDS if self._intake.pending else None):
                    first = await queue.get()
            except TimeoutError:
                await in_thread(self._flush)
                continue
            if isinstance(first, Exception):
                raise first
            if first is None:
                return None
            batch = [first]
            while not queue.empty():
                line = queue.get_nowait()
                if not isinstance(line, bytes):
                    queue.put_nowait(line)  # nothing comes after it
                    break
                batch.append(line)
            return batch

    def _write(self, batch: list[bytes], fresh: Fresh) -> None:
        for line in batch:
            moment, _, text = line.partition(b" ")
            at_ns = parse_ns(moment)
            if at_ns is None or not fresh.takes(at_ns):
                continue
            self._position = self._position.after(at_ns)
            self._append(self._intake.take(text + b"\n", self._clock.monotonic_seconds()))
        with contextlib.suppress(OSError):  # the deployment is gone, or the disk is full
            self._position.write(self._path)

    def _flush(self) -> None:
        self._append(self._intake.flush())

    def _append(self, entries: list[Entry]) -> None:
        for letter, texts in entries:
            at_ms = self._position.last_ns // _NS_A_MS
            self._logs.append(self._pod.log or LogKind.RUNTIME, letter, texts, at_ms=at_ms)


class Followers:
    """Follows every pod of a gateway's apps."""

    def __init__(self, source: Cluster, clock: Clock, logs: SharedLogs) -> None:
        self._source = source
        self._clock = clock
        self._logs = logs
        self._there: dict[str, Pod] = {}  # by name, which no other pod of any wallet has
        self._following: dict[str, tuple[str, Follower, asyncio.Task[None]]] = {}

    def see(self, before: Pod | None, after: Pod | None) -> None:
        """Takes in the change of a pod; begins to follow one that has written something."""
        if after is None:
            if before is not None:
                self._there.pop(before.name, None)
            return
        self._there[after.name] = after
        known = self._following.get(after.name)
        if known is not None:
            known[1].see(after)
        elif after.is_running or after.last_end is not None:
            follower = Follower(self._source, after, self._logs, self._clock)
            name = after.name
            task = asyncio.create_task(follower.run(is_there=lambda: name in self._there))
            self._following[name] = (after.deployment_id, follower, task)
            task.add_done_callback(lambda _: self._following.pop(name, None))

    async def drained(self, deployment_id: str) -> None:
        """Waits until what an app wrote that has ended is in its log, or for some seconds."""
        own = [follower for it, follower, _ in self._following.values() if it == deployment_id]
        waits = [asyncio.create_task(follower.is_at_end.wait()) for follower in own]
        if waits:
            _, late = await asyncio.wait(waits, timeout=_DRAIN_SECONDS)
            for task in late:
                task.cancel()

    async def close(self) -> None:
        """Ends all following; what is not read yet, the next gateway reads."""
        tasks = [task for _, _, task in self._following.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._following.clear()
