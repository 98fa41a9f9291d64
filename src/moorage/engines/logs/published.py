"""Keeps logs in a content store as well, where gateways on other machines read them.

One gateway writes logs at a time. What it writes is in the store a few seconds later; the next one
goes on with what is there.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from moorage.content.store import ContentStore
from moorage.engines.locks import Locks
from moorage.engines.logs import pieces
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.pieces import Piece, Put
from moorage.engines.logs.store import segment_path, segments
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind
from moorage.threads import in_thread

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
            for item in await self._store.items(pieces.log_prefix(deployment_id)):
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
            wanted = pieces.changes((Piece(*it) for it in found), stored)
            for put in wanted.puts:
                with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                    if (piece := await self._put_piece(deployment_id, kind, put)) is not None:
                        stored[:] = [it for it in stored if it.position != piece.position]
                        stored.append(piece)
            for position in wanted.removed:
                await self._store.delete(pieces.piece_key(deployment_id, kind, position))
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
            key = pieces.piece_key(deployment_id, kind, put.position)
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
        draft, key = path.with_suffix(_DRAFT), f"{pieces.log_prefix(deployment_id)}/{path.name}"

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
        items = await self._store.items(pieces.log_prefix(deployment_id))
        for kind in LogKind:
            stored = pieces.pieces_of(items, deployment_id, kind)
            whole = pieces.unbroken(stored)
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
            await self._store.get(pieces.piece_key(deployment_id, kind, last.position), draft)
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
                key = pieces.piece_key(deployment_id, kind, piece.position)
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
            await self._store.get(f"{pieces.log_prefix(deployment_id)}/{path.name}", path)
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
