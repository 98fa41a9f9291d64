"""Logs of this machine that other gateways read, as pieces in the content store."""

import asyncio
import contextlib
import logging
import math
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from moorage.clock import Clock
from moorage.content.store import ContentStore, Item
from moorage.engines.locks import Locks
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.store import segment_path, segments
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind
from moorage.threads import in_thread

PIECE_BYTES = 128 * 1024
"""From this size on a piece is not replaced; it may be as large as a segment."""

_PREFIX = "logs"
_POSITION = re.compile(r"[0-9]{16}", re.ASCII)


class Piece(NamedTuple):
    """A part of a log: a segment of the log on the disk, or a file in the store."""

    position: int  # of its first byte in the whole log
    size: int

    @property
    def end(self) -> int:
        """The position behind it."""
        return self.position + self.size


class Put(NamedTuple):
    """Bytes of a log that are to be one piece."""

    segment: int  # the position of the segment that has them
    position: int
    end: int


class Changes(NamedTuple):
    """What makes the pieces in a store those of a log."""

    puts: tuple[Put, ...]
    removed: tuple[int, ...]  # the positions of pieces


def changes(segments: Iterable[Piece], stored: Sequence[Piece]) -> Changes:
    """Returns what is to be put for a log of these segments, and which pieces are to go then."""
    sizes = dict(stored)
    kept, puts = set[int](), []
    for segment in segments:
        position = segment.position
        while position < segment.end:
            kept.add(position)
            end = position + sizes.get(position, 0)
            is_done = end == segment.end or end - position >= PIECE_BYTES
            if not is_done or end > segment.end:
                puts.append(Put(segment.position, position, segment.end))
                break
            position = end
    return Changes(tuple(puts), tuple(it.position for it in stored if it.position not in kept))


def unbroken(pieces: Iterable[Piece]) -> list[Piece]:
    """Returns the newest pieces of which each begins where another ends, the oldest first."""
    found: list[Piece] = []
    for piece in sorted(pieces, reverse=True):
        if found and piece.end != found[-1].position:
            break
        found.append(piece)
    return found[::-1]


def log_prefix(deployment_id: str, kind: LogKind | None = None) -> str:
    """Returns what the keys of a log begin with; without a kind, of all that a deployment has."""
    return "/".join(filter(None, (_PREFIX, deployment_id, kind)))


def piece_key(deployment_id: str, kind: LogKind, position: int) -> str:
    """Returns the key of a piece."""
    return f"{log_prefix(deployment_id, kind)}/{position:016d}"


def pieces_of(items: Iterable[Item], deployment_id: str, kind: LogKind) -> list[Piece]:
    """Returns the pieces of a log among a store's files."""
    prefix = f"{log_prefix(deployment_id, kind)}/"
    found = ((item.key.removeprefix(prefix), item.size) for item in items)
    return [Piece(int(name), size) for name, size in found if _POSITION.fullmatch(name)]


_PAUSE_SECONDS = 3.0  # between two changes of a log in the store, each of which may cost money
_FLUSH_SECONDS = 5.0
_AT_ONCE = 8
_DRAFT = ".draft"

logger = logging.getLogger(__name__)

Log = tuple[str, LogKind]
"""A deployment's id, and which of its logs."""


class PublishedLogs:
    """The logs of a gateway that writes them."""

    def __init__(
        self,
        store: ContentStore,
        logs: Callable[[str], Logs],
        *,
        beside: str = "",
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """`logs` gives those of a deployment, which say `changed`.

        `beside` is the name of a file beside runtime logs that is stored with them. Made in a
        running loop.
        """
        self._store = store
        self._logs = logs
        self._beside = beside
        self._pause_seconds = pause_seconds
        self._loop = asyncio.get_running_loop()
        self._stored: dict[Log, list[Piece]] = {}  # of logs that were adopted
        self._changed: set[Log] = set()  # since they were stored
        self._storing: dict[Log, asyncio.Task[None]] = {}
        self._locks = Locks()
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def adopt(self, deployment_id: str) -> None:
        """Brings logs here that another gateway has written; at once if this one has before.

        Call it before anything is written. Raises ContentUnavailable, OSError.
        """
        async with self._places, self._locks.alone(deployment_id):
            await self._adopt(deployment_id)

    def changed(self, deployment_id: str, kind: LogKind) -> None:
        """Takes in that lines were written, from any thread."""
        self._loop.call_soon_threadsafe(self._store_later, (deployment_id, kind))

    def rewritten(self, deployment_id: str, kind: LogKind) -> None:
        """Takes in that a log has become another; it was adopted."""
        log = (deployment_id, kind)
        self._stored[log] = [Piece(it.position, 0) for it in self._stored[log]]
        self._store_later(log)

    async def flush(self, deployment_id: str) -> None:
        """Waits until what was written so far is in the store, or for some seconds."""
        await asyncio.sleep(0)  # what was written in a thread is known from now on
        with contextlib.suppress(ContentUnavailable, TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS), self._locks.alone(deployment_id):
                for kind in LogKind:
                    await self._put(deployment_id, kind)

    async def remove(self, deployment_id: str) -> None:
        """Removes a deployment's logs from the store. Raises ContentUnavailable."""
        async with self._locks.alone(deployment_id):
            for kind in LogKind:
                self._changed.discard((deployment_id, kind))
                self._stored.pop((deployment_id, kind), None)
            for item in await self._store.items(log_prefix(deployment_id)):
                await self._store.delete(item.key)

    async def close(self) -> None:
        """Stores what is not stored yet, if that takes no more than some seconds."""
        waiting = {deployment_id for deployment_id, _ in self._changed}
        await asyncio.gather(*map(self.flush, waiting))
        tasks = list(self._storing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _store_later(self, log: Log) -> None:
        self._changed.add(log)
        if log not in self._storing:
            task = asyncio.create_task(self._store_soon(log))
            self._storing[log] = task
            task.add_done_callback(lambda _: self._storing.pop(log, None))

    async def _store_soon(self, log: Log) -> None:
        """Stores a log, with pauses, until nothing more has been written."""
        deployment_id, kind = log
        while log in self._changed:
            try:
                async with self._places, self._locks.alone(deployment_id):
                    await self._put(deployment_id, kind)
            except (ContentUnavailable, OSError) as error:
                logger.warning("log of %s is not stored yet: %s", deployment_id, error)
            await asyncio.sleep(self._pause_seconds)

    async def _put(self, deployment_id: str, kind: LogKind) -> None:
        log = (deployment_id, kind)
        if log not in self._changed:
            return
        await self._adopt(deployment_id)
        self._changed.discard(log)
        try:
            await self._put_changes(deployment_id, kind)
        except BaseException:
            self._changed.add(log)
            raise

    async def _put_changes(self, deployment_id: str, kind: LogKind) -> None:
        directory = self._logs(deployment_id).of(kind)
        stored = self._stored[deployment_id, kind]
        async with self._beside_until_now(deployment_id, kind) as put_beside:
            found = await in_thread(segments, directory)
            wanted = changes((Piece(*it) for it in found), stored)
            for put in wanted.puts:
                with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                    if (piece := await self._put_piece(deployment_id, kind, put)) is not None:
                        stored[:] = [it for it in stored if it.position != piece.position]
                        stored.append(piece)
            for position in wanted.removed:
                await self._store.delete(piece_key(deployment_id, kind, position))
                stored[:] = [it for it in stored if it.position != position]
            if wanted.puts:
                await put_beside()

    async def _put_piece(self, deployment_id: str, kind: LogKind, put: Put) -> Piece | None:
        logs = self._logs(deployment_id)
        draft = logs.directory / f"{kind}{_DRAFT}"
        try:
            size = await in_thread(_cut, logs.of(kind), put, draft)
            if not size:
                return None
            key = piece_key(deployment_id, kind, put.position)
            await self._store.put(key, draft)
        finally:
            draft.unlink(missing_ok=True)
        return Piece(put.position, size)

    @asynccontextmanager
    async def _beside_until_now(
        self, deployment_id: str, kind: LogKind
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Gives what stores the file beside a log as it is now, before more is written."""
        path = self._logs(deployment_id).directory / self._beside
        draft, key = path.with_suffix(_DRAFT), f"{log_prefix(deployment_id)}/{path.name}"

        async def put() -> None:
            with contextlib.suppress(FileNotFoundError):
                await self._store.put(key, draft)

        async def nothing() -> None:
            return

        if not self._beside or kind is not LogKind.RUNTIME:
            yield nothing
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                await in_thread(shutil.copyfile, path, draft)
            yield put
        finally:
            draft.unlink(missing_ok=True)

    async def _adopt(self, deployment_id: str) -> None:
        if all((deployment_id, kind) in self._stored for kind in LogKind):
            return
        items = await self._store.items(log_prefix(deployment_id))
        for kind in LogKind:
            stored = pieces_of(items, deployment_id, kind)
            whole = unbroken(stored)
            if not await self._goes_on(deployment_id, kind, whole):
                await self._fetch(deployment_id, kind, whole)
            self._stored[deployment_id, kind] = stored
            self._store_later((deployment_id, kind))  # what was not stored, or is left over

    async def _goes_on(self, deployment_id: str, kind: LogKind, stored: Sequence[Piece]) -> bool:
        """Returns whether the log here begins with what is stored, and so was written here last."""
        if not stored:
            return True
        logs, last = self._logs(deployment_id), stored[-1]
        draft = logs.directory / f"{kind}{_DRAFT}"
        await in_thread(logs.create)
        try:
            await self._store.get(piece_key(deployment_id, kind, last.position), draft)
            return await in_thread(_contains, logs.of(kind), last.position, draft)
        except FileNotFoundError:  # another gateway writes still
            raise ContentUnavailable from None
        finally:
            draft.unlink(missing_ok=True)

    async def _fetch(self, deployment_id: str, kind: LogKind, stored: Sequence[Piece]) -> None:
        """Replaces the log here by what is stored."""
        logs = self._logs(deployment_id)
        draft = logs.directory / f"{kind}{_DRAFT}"
        await in_thread(shutil.rmtree, draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        try:
            for piece in stored:
                key = piece_key(deployment_id, kind, piece.position)
                await self._store.get(key, segment_path(draft, piece.position))
            await in_thread(_replace, logs.of(kind), draft)
        except FileNotFoundError:
            raise ContentUnavailable from None
        finally:
            await in_thread(shutil.rmtree, draft, ignore_errors=True)
        if kind is LogKind.RUNTIME and self._beside:
            await self._fetch_beside(deployment_id)

    async def _fetch_beside(self, deployment_id: str) -> None:
        path = self._logs(deployment_id).directory / self._beside
        try:
            await self._store.get(f"{log_prefix(deployment_id)}/{path.name}", path)
        except FileNotFoundError:
            path.unlink(missing_ok=True)


def _cut(log: Path, put: Put, target: Path) -> int:
    """Writes the bytes to a file, without a line that is not whole; returns how many there are."""
    with segment_path(log, put.segment).open("rb") as segment:
        segment.seek(put.position - put.segment)
        found = segment.read(put.end - put.position)
    whole = found[: found.rfind(b"\n") + 1]
    target.write_bytes(whole)
    return len(whole)


def _contains(log: Path, position: int, piece: Path) -> bool:
    """Returns whether a log has the bytes of a file at a position."""
    wanted = piece.read_bytes()
    for start, size in segments(log):
        if start <= position and position + len(wanted) <= start + size:
            with segment_path(log, start).open("rb") as segment:
                segment.seek(position - start)
                return segment.read(len(wanted)) == wanted
    return False


def _replace(log: Path, draft: Path) -> None:
    shutil.rmtree(log, ignore_errors=True)
    draft.rename(log)


_COPIES_PAUSE_SECONDS = (
    0.3  # between two checks of one log in the store, each of which may cost money
)
_TRIES = 3
_MAX_BYTES = 256 * 1024 * 1024
_MAX_COPIES = 1000
_IN_USE_SECONDS = 30.0  # a copy that was asked for within them is not removed

"""A deployment's id, and which of its logs."""


class LogCopies:
    """Those in one directory, of which the ones asked for last are kept."""

    def __init__(
        self, store: ContentStore, directory: Path, *, clock: Clock, max_bytes: int = _MAX_BYTES
    ) -> None:
        """`directory` is this object's own; what lies there is removed."""
        self._store = store
        self._directory = directory
        self._clock = clock
        self._max_bytes = max_bytes
        self._locks = Locks()
        self._copies: dict[Log, _Copy] = {}  # the one that was asked for last is the last
        self._places = asyncio.Semaphore(_AT_ONCE)
        shutil.rmtree(directory, ignore_errors=True)

    async def current(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns logs to read, of which this kind is all that was stored when this was called.

        Raises ContentUnavailable, OSError.
        """
        log, asked = (deployment_id, kind), self._clock.monotonic_seconds()
        logs = self._logs(deployment_id)
        async with self._locks.alone(f"{deployment_id} {kind}"):
            copy = self._copies.pop(log, None) or _Copy()
            self._copies[log] = copy  # also if this fails: what is on the disk already counts
            if copy.checked_at < asked:
                await asyncio.sleep(
                    copy.checked_at + _COPIES_PAUSE_SECONDS - self._clock.monotonic_seconds()
                )
                checked_at = self._clock.monotonic_seconds()
                async with self._places:
                    await self._update(logs.of(kind), log, copy.items)
                copy.checked_at = checked_at
        await self._remove_idle()
        return logs

    def _logs(self, deployment_id: str) -> Logs:
        directory = self._directory / deployment_id
        return Logs(directory=directory, collecting=None, clock=self._clock)

    async def _update(self, directory: Path, log: Log, here: dict[int, Item]) -> None:
        """Makes a copy what is stored; `here` says at each moment what it is a copy of."""
        for _ in range(_TRIES):
            items = await self._store.items(log_prefix(*log))
            whole = {it.position for it in unbroken(pieces_of(items, *log))}
            wanted = {
                piece.position: item
                for item in items
                for piece in pieces_of([item], *log)
                if piece.position in whole
            }
            await in_thread(_clear, directory, wanted)
            for position in here.keys() - wanted.keys():
                del here[position]
            try:
                for position, item in wanted.items():
                    if here.get(position) != item:
                        await self._get(item.key, segment_path(directory, position))
                        here[position] = item
            except FileNotFoundError:
                continue  # it was removed since it was listed
            return
        raise ContentUnavailable

    async def _get(self, key: str, target: Path) -> None:
        draft = target.parent.with_suffix(".draft")
        try:
            await self._store.get(key, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    async def _remove_idle(self) -> None:
        """Removes the copies that were asked for the longest ago, as long as there are too many."""
        now = self._clock.monotonic_seconds()
        for log, copy in list(self._copies.items()):
            has_room = sum(it.size for it in self._copies.values()) <= self._max_bytes
            is_in_use = now - copy.checked_at < _IN_USE_SECONDS
            if (has_room and len(self._copies) <= _MAX_COPIES) or is_in_use:
                return
            deployment_id, kind = log
            directory = self._logs(deployment_id).of(kind)
            async with self._locks.alone(f"{deployment_id} {kind}"):
                if self._copies.get(log) is copy and copy.checked_at <= now - _IN_USE_SECONDS:
                    del self._copies[log]
                    await in_thread(shutil.rmtree, directory, ignore_errors=True)


@dataclass(eq=False)
class _Copy:
    checked_at: float = -math.inf  # when it was all that was stored, on the monotonic clock
    items: dict[int, Item] = field(default_factory=dict)  # what it is a copy of, by their positions

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items.values())


def _clear(directory: Path, wanted: Collection[int]) -> None:
    """Makes the directory; removes the pieces in it that are not wanted any more."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for position, _ in segments(directory):
        if position not in wanted:
            segment_path(directory, position).unlink(missing_ok=True)


class SharedLogs:
    """The logs in a directory of each deployment, and in a content store if there is one."""

    def __init__(
        self,
        deployments: Path,
        clock: Clock,
        *,
        store: ContentStore | None,
        copies: Path,
        writes: bool,
        beside: str,
    ) -> None:
        """`deployments` has the directories; `copies` is for what another gateway writes.

        `beside` is a file that lies beside a runtime log. Made in a running loop.
        """
        self.deployments = deployments
        self._clock = clock
        self._published = self._copies = None
        if store is not None and writes:
            self._published = PublishedLogs(store, self.of, beside=beside)
        elif store is not None:
            self._copies = LogCopies(store, copies, clock=clock)

    def of(self, deployment_id: str) -> Logs:
        """Returns the logs of a deployment in its directory."""
        changed = None if self._published is None else self._published.changed
        directory = self.deployments / deployment_id
        return Logs(directory=directory, collecting=None, clock=self._clock, changed=changed)

    async def readable(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns logs of which this kind is here as far as it is written, or stored by another.

        Raises ContentUnavailable.
        """
        if self._copies is not None:
            return await self._copies.current(deployment_id, kind)
        if self._published is not None:
            await self._published.adopt(deployment_id)
        return self.of(deployment_id)

    async def adopt(self, deployment_id: str) -> None:
        """Makes logs ready to be written, with all that is stored. Raises ContentUnavailable."""
        if self._published is not None:
            await self._published.adopt(deployment_id)
        await in_thread(self.of(deployment_id).create)

    async def publish(self, deployment_id: str) -> None:
        """Waits until other gateways can read what was written, or for some seconds."""
        if self._published is not None:
            await self._published.flush(deployment_id)

    async def copy(self, origin_id: str, deployment_id: str, kind: LogKind) -> None:
        """Replaces an adopted log by another deployment's. Raises ContentUnavailable, OSError."""
        await self.adopt(origin_id)
        await in_thread(self.of(deployment_id).copy_from, self.of(origin_id), kind)
        if self._published is not None:
            self._published.rewritten(deployment_id, kind)

    async def remove(self, deployment_id: str) -> None:
        """Removes all logs of a deployment. Raises ContentUnavailable."""
        if self._published is not None:
            await self._published.remove(deployment_id)
        directory = self.deployments / deployment_id
        await in_thread(shutil.rmtree, directory, ignore_errors=True)

    async def close(self) -> None:
        """Publishes what is left to publish, if that takes no more than some seconds."""
        if self._published is not None:
            await self._published.close()
